#include "api_server/engine_client/pause_register.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace trireme::api {
namespace {

TEST(PauseRegister, each_change_has_a_new_number_and_what_is_no_change_has_none) {
  PauseRegister alone;
  EXPECT_EQ(alone.get(), (PauseState{0, PauseMode::kServing}));
  alone.set(PauseMode::kServing);
  EXPECT_EQ(alone.get().number, 0u);
  alone.set(PauseMode::kKeep);
  alone.set(PauseMode::kKeep);
  EXPECT_EQ(alone.get(), (PauseState{1, PauseMode::kKeep}));
  alone.set(PauseMode::kServing);
  EXPECT_EQ(alone.get(), (PauseState{2, PauseMode::kServing}));
}

TEST(PauseRegister, another_one_over_the_same_page_says_the_same) {
  auto launcher = PauseRegister::create();
  ASSERT_TRUE(launcher.ok());
  auto first = PauseRegister::attach(UniqueFd(::dup(launcher->fd())));
  auto second = PauseRegister::attach(UniqueFd(::dup(launcher->fd())));
  ASSERT_TRUE(first.ok() && second.ok());
  first->set(PauseMode::kAbort);
  EXPECT_EQ(second->get(), (PauseState{1, PauseMode::kAbort}));
  second->set(PauseMode::kServing);
  EXPECT_EQ(first->get(), (PauseState{2, PauseMode::kServing}));
}

TEST(PauseRegister, no_change_of_two_writers_is_lost) {
  auto shared = PauseRegister::create();
  ASSERT_TRUE(shared.ok());
  constexpr int kChanges = 10'000;
  const auto write = [&](PauseMode one, PauseMode other) {
    for (int i = 0; i < kChanges; ++i) shared->set(i % 2 == 0 ? one : other);
  };
  std::thread first(write, PauseMode::kAbort, PauseMode::kServing);
  std::thread second(write, PauseMode::kKeep, PauseMode::kWait);
  first.join();
  second.join();
  // No two of a writer's own changes are the same, and neither's are the other's.
  EXPECT_EQ(shared->get().number, 2u * kChanges);
}

TEST(PauseRegister, other_memory_is_refused) {
  auto other = shm::Mapping::create("other", 64);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(PauseRegister::attach(UniqueFd(::dup(other->fd()))).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::api
