#include "api_server/engine_client/pause_register.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace trireme::api {
namespace {

TEST(PauseRegister, outbids_what_another_node_has_asked_for) {
  PauseRegister alone;
  alone.set(PauseMode::kKeep, 50);
  EXPECT_EQ(alone.outbid(40), (PauseState{50, PauseMode::kKeep}));
  EXPECT_EQ(alone.outbid(70), (PauseState{71, PauseMode::kKeep}));
  EXPECT_EQ(alone.set(PauseMode::kServing, 60), (PauseState{72, PauseMode::kServing}));
}

TEST(PauseRegister, each_change_is_later_than_the_one_before_and_what_is_no_change_is_none) {
  PauseRegister alone;
  EXPECT_EQ(alone.get(), (PauseState{0, PauseMode::kServing}));
  EXPECT_EQ(alone.set(PauseMode::kServing, 50), (PauseState{0, PauseMode::kServing}));
  EXPECT_EQ(alone.set(PauseMode::kKeep, 50), (PauseState{50, PauseMode::kKeep}));
  EXPECT_EQ(alone.set(PauseMode::kKeep, 60), (PauseState{50, PauseMode::kKeep}));
  // A clock that was set back.
  EXPECT_EQ(alone.set(PauseMode::kServing, 10), (PauseState{51, PauseMode::kServing}));
  EXPECT_EQ(alone.get(), (PauseState{51, PauseMode::kServing}));
}

TEST(PauseRegister, a_sleep_outlasts_pauses_and_ends_with_serving) {
  PauseRegister alone;
  EXPECT_EQ(alone.set(PauseMode::kAbort, 50), (PauseState{50, PauseMode::kAbort}));
  EXPECT_EQ(alone.set(PauseMode::kAbort, 60, true), (PauseState{60, PauseMode::kAbort, true}));
  EXPECT_EQ(alone.set(PauseMode::kAbort, 70), (PauseState{60, PauseMode::kAbort, true}));
  EXPECT_EQ(alone.set(PauseMode::kKeep, 70), (PauseState{70, PauseMode::kKeep, true}));
  EXPECT_EQ(alone.get(), (PauseState{70, PauseMode::kKeep, true}));
  EXPECT_EQ(alone.set(PauseMode::kServing, 80), (PauseState{80, PauseMode::kServing}));
  EXPECT_EQ(alone.set(PauseMode::kServing, 90, true), (PauseState{80, PauseMode::kServing}));
}

TEST(PauseRegister, another_one_over_the_same_page_says_the_same) {
  auto launcher = PauseRegister::create(7);
  ASSERT_TRUE(launcher.ok());
  auto first = PauseRegister::attach(UniqueFd(::dup(launcher->fd())));
  auto second = PauseRegister::attach(UniqueFd(::dup(launcher->fd())));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(second->get(), (PauseState{7, PauseMode::kServing}));
  first->set(PauseMode::kAbort, 8);
  EXPECT_EQ(second->get(), (PauseState{8, PauseMode::kAbort}));
  second->set(PauseMode::kServing, 9);
  EXPECT_EQ(first->get(), (PauseState{9, PauseMode::kServing}));
}

TEST(PauseRegister, no_two_changes_of_two_writers_share_their_time) {
  auto shared = PauseRegister::create(0);
  ASSERT_TRUE(shared.ok());
  constexpr int kChanges = 10'000;
  const auto write = [&](PauseMode one, PauseMode other) {
    for (int i = 0; i < kChanges; ++i) shared->set(i % 2 == 0 ? one : other, 0);
  };
  std::thread first(write, PauseMode::kAbort, PauseMode::kServing);
  std::thread second(write, PauseMode::kKeep, PauseMode::kWait);
  first.join();
  second.join();
  // No two of a writer's own changes are the same, and neither's are the other's.
  EXPECT_EQ(shared->get().issued_at, 2u * kChanges);
}

TEST(PauseRegister, other_memory_is_refused) {
  auto other = shm::Mapping::create("other", 64);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(PauseRegister::attach(UniqueFd(::dup(other->fd()))).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::api
