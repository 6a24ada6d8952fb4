#include "worker/sign_of_life.h"

#include <gtest/gtest.h>

#include <array>

namespace trireme::worker {
namespace {

TEST(SignOfLife, what_a_worker_enters_is_what_its_engine_sees) {
  alignas(SignOfLife) std::array<std::byte, 128> note{};
  SignOfLife& shared = sign_of_life_in(note);
  EXPECT_EQ(look_at(shared), LifeSighting{});
  const LifeSigns signs(shared);
  signs.begin_step(StepId{812});
  signs.enter(WorkerPhase::kAttention, 3);
  LifeSighting expected{StepId{812}, WorkerPhase::kAttention, 3, 2};
  expected.begun = 1;
  EXPECT_EQ(look_at(shared), expected);
  signs.enter(WorkerPhase::kReducing);
  expected.phase = WorkerPhase::kReducing;
  expected.changes = 3;
  EXPECT_EQ(look_at(shared), expected);
}

TEST(SignOfLife, the_count_of_changes_wraps_and_leaves_the_rest_alone) {
  SignOfLife shared{};
  shared.activity = 0xFFFFFFFFULL << 32;
  LifeSigns(shared).enter(WorkerPhase::kMlp, 0xFFFFFF);
  EXPECT_EQ(look_at(shared), (LifeSighting{StepId{0}, WorkerPhase::kMlp, 0xFFFFFF, 0}));
}

TEST(SignOfLife, shows_the_place_that_is_waited_for) {
  SignOfLife shared{};
  const LifeSigns signs(shared);
  signs.enter(WorkerPhase::kCombining, 2);
  signs.await(0);
  EXPECT_EQ(look_at(shared), (LifeSighting{StepId{0}, WorkerPhase::kCombining, 2, 1, 0U}));
  signs.await_nobody();
  EXPECT_EQ(look_at(shared).awaited, std::nullopt);
}

TEST(SignOfLife, what_peers_need_not_do_is_no_change) {
  SignOfLife shared{};
  const LifeSigns signs(shared);
  signs.enter(WorkerPhase::kComputingExperts, 3);
  const LifeSighting before = look_at(shared);
  signs.turn_aside(WorkerPhase::kLoadingExperts);
  const LifeSighting first = look_at(shared);
  signs.turn_aside(WorkerPhase::kLoadingExperts);
  const LifeSighting second = look_at(shared);
  EXPECT_EQ(second.phase, WorkerPhase::kLoadingExperts);
  EXPECT_EQ(second.layer, 3U);
  EXPECT_NE(first, second) << "the next piece is a sign of life";
  signs.turn_aside(WorkerPhase::kComputingExperts);
  EXPECT_EQ(look_at(shared).phase, before.phase);
  EXPECT_EQ(look_at(shared).changes, before.changes);
}

TEST(SignOfLife, counts_steps_and_shows_waits_which_are_no_change) {
  SignOfLife shared{};
  const LifeSigns signs(shared);
  signs.begin_step(StepId{7});
  signs.begin_step(StepId{7});
  EXPECT_EQ(look_at(shared).begun, 2U);
  const LifeSighting before = look_at(shared);
  signs.show_wait();
  EXPECT_EQ(look_at(shared).waits, before.waits + 1);
  EXPECT_EQ(look_at(shared).changes, before.changes);
  EXPECT_EQ(look_at(shared).asides, before.asides);
}

TEST(SignOfLife, signs_into_nowhere_do_nothing) {
  const LifeSigns signs;
  signs.begin_step(StepId{1});
  signs.enter(WorkerPhase::kMlp, 1);
  signs.show_wait();
  EXPECT_FALSE(signs.are_seen());
  EXPECT_EQ(signs.phase(), WorkerPhase::kUnknown);
}

}  // namespace
}  // namespace trireme::worker
