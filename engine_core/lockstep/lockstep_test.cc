// Tests of the engine's half of the lockstep protocol, one rule per test.
#include "engine_core/lockstep/lockstep.h"

#include <gtest/gtest.h>

#include <array>

#include "engine_core/lockstep/record_table.h"

namespace trireme::engine {
namespace {

using Phase = Lockstep::Phase;

wire::StartWave start(uint64_t wave, uint64_t abandon_below = 0) {
  return {.wave = WaveId{wave},
          .epoch = Epoch{3},
          .ranks = {0, 1},
          .abandon_below = WaveId{abandon_below}};
}

StepSummary nothing_to_do() { return summary_of({}); }
StepSummary work() { return summary_of({.has_work = true}); }
StepSummary all_go_to(uint64_t wave) { return summary_of({.next = WaveId{wave}}); }

class LockstepTest : public testing::Test {
 protected:
  void run_a_step() {
    (void)lockstep_.post(true);
    ASSERT_EQ(lockstep_.on_agreed(work()), StepOrder::kRun);
  }

  Lockstep lockstep_{EngineId{0}};
};

TEST_F(LockstepTest, a_wave_runs_until_nobody_has_work) {
  EXPECT_EQ(lockstep_.phase(), Phase::kAsleep);
  lockstep_.on_start(start(4));
  EXPECT_EQ(lockstep_.post(true), (StepRecord{.wave = WaveId{4}, .step = 1, .has_work = true}));
  EXPECT_EQ(lockstep_.on_agreed(work()), StepOrder::kRun);
  lockstep_.on_step_done(false);
  EXPECT_EQ(lockstep_.post(false), (StepRecord{.wave = WaveId{4}, .step = 2}));
  EXPECT_EQ(lockstep_.on_agreed(nothing_to_do()), StepOrder::kEnd);
  EXPECT_EQ(lockstep_.phase(), Phase::kAsleep);
}

TEST_F(LockstepTest, an_older_or_repeated_start_changes_nothing) {
  lockstep_.on_start(start(4));
  lockstep_.on_start(start(4, 4));
  lockstep_.on_start(start(3, 9));
  EXPECT_EQ(lockstep_.wave(), WaveId{4});
  EXPECT_EQ(lockstep_.post(false).next, WaveId{});
}

TEST_F(LockstepTest, all_go_over_to_the_next_wave_between_two_steps) {
  lockstep_.on_start(start(4));
  run_a_step();
  lockstep_.on_start(start(5));
  EXPECT_FALSE(lockstep_.must_break());
  lockstep_.on_step_done(false);
  EXPECT_EQ(lockstep_.post(true).next, WaveId{5});
  EXPECT_EQ(lockstep_.on_agreed(all_go_to(5)), StepOrder::kSwitch);
  EXPECT_EQ(lockstep_.wave(), WaveId{5});
  EXPECT_EQ(lockstep_.step(), 1u);
}

TEST_F(LockstepTest, they_go_on_as_they_are_while_one_has_not_heard_of_the_next_wave) {
  lockstep_.on_start(start(4));
  lockstep_.on_start(start(5));
  (void)lockstep_.post(true);
  EXPECT_EQ(lockstep_.on_agreed(combine(all_go_to(5), work())), StepOrder::kRun);
  EXPECT_EQ(lockstep_.wave(), WaveId{4});
}

TEST_F(LockstepTest, a_wave_that_ends_makes_room_for_the_next) {
  lockstep_.on_start(start(4));
  lockstep_.on_start(start(5));
  (void)lockstep_.post(false);
  EXPECT_EQ(lockstep_.on_agreed(combine(all_go_to(5), nothing_to_do())), StepOrder::kEnd);
  EXPECT_EQ(lockstep_.wave(), WaveId{5});
  EXPECT_EQ(lockstep_.phase(), Phase::kReady);
}

TEST_F(LockstepTest, a_rank_that_the_next_wave_is_without_goes_out_where_the_others_go_over) {
  lockstep_.on_start(start(4));
  EXPECT_FALSE(lockstep_.is_out());
  run_a_step();
  wire::StartWave next = start(5);
  next.ranks = {1};
  lockstep_.on_start(next);
  lockstep_.on_step_done(false);
  EXPECT_EQ(lockstep_.post(false).next, WaveId{5});
  EXPECT_EQ(lockstep_.on_agreed(all_go_to(5)), StepOrder::kSwitch);
  EXPECT_EQ(lockstep_.phase(), Phase::kAsleep);
  EXPECT_TRUE(lockstep_.is_out());
  EXPECT_EQ(lockstep_.wave(), WaveId{5}) << "that it has heard of";
  lockstep_.on_start(start(6));
  EXPECT_EQ(lockstep_.phase(), Phase::kReady) << "of a coordinator that does not know";
}

TEST_F(LockstepTest, a_start_that_comes_again_may_say_to_leave_at_once) {
  lockstep_.on_start(start(4));
  (void)lockstep_.post(false);
  wire::StartWave next = start(5);
  next.ranks = {1};
  lockstep_.on_start(next);
  EXPECT_EQ(lockstep_.phase(), Phase::kAgreeing);
  next.abandon_below = WaveId{5};
  lockstep_.on_start(next);
  EXPECT_EQ(lockstep_.phase(), Phase::kAsleep);
  EXPECT_TRUE(lockstep_.is_out());
  lockstep_.on_start(next);
  EXPECT_EQ(lockstep_.phase(), Phase::kAsleep);
}

TEST_F(LockstepTest, a_wave_that_lost_a_rank_is_left_at_once) {
  lockstep_.on_start(start(4));
  (void)lockstep_.post(true);
  lockstep_.on_start(start(5, 5));
  EXPECT_EQ(lockstep_.wave(), WaveId{5});
  EXPECT_EQ(lockstep_.phase(), Phase::kReady);
}

TEST_F(LockstepTest, a_step_that_nobody_will_finish_is_broken_off_and_owed) {
  lockstep_.on_start(start(4));
  run_a_step();
  lockstep_.on_start(start(5, 5));
  EXPECT_TRUE(lockstep_.must_break());
  EXPECT_EQ(lockstep_.wave(), WaveId{4}) << "the workers are in it still";
  lockstep_.on_step_done(/*is_abandoned=*/true);
  EXPECT_EQ(lockstep_.wave(), WaveId{5});
  EXPECT_TRUE(lockstep_.owes_step());
  EXPECT_TRUE(lockstep_.post(false).has_work);
  EXPECT_EQ(lockstep_.on_agreed(work()), StepOrder::kRun);
  lockstep_.on_step_done(false);
  EXPECT_FALSE(lockstep_.owes_step());
}

TEST_F(LockstepTest, a_wave_that_does_not_follow_a_loss_in_ours_leaves_us_in_ours) {
  lockstep_.on_start(start(7));
  run_a_step();
  lockstep_.on_start(start(8, 6));
  EXPECT_FALSE(lockstep_.must_break());
}

TEST_F(LockstepTest, a_pause_holds_at_once_for_who_sleeps_and_by_agreement_for_who_steps) {
  lockstep_.wish_pause({1, PauseMode::kKeep});
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kKeep);
  lockstep_.wish_pause({2, PauseMode::kNone});
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kNone);
  lockstep_.on_start(start(4));
  lockstep_.wish_pause({3, PauseMode::kWait});
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kNone);
  (void)lockstep_.on_agreed(summary_of(lockstep_.post(true)));
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kWait);
}

TEST_F(LockstepTest, a_pause_that_is_asked_for_while_the_wave_ends_holds_when_it_has) {
  lockstep_.on_start(start(4));
  (void)lockstep_.post(false);
  lockstep_.wish_pause({1, PauseMode::kKeep});
  EXPECT_EQ(lockstep_.on_agreed(nothing_to_do()), StepOrder::kEnd);
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kKeep);
}

TEST_F(LockstepTest, a_rank_takes_over_the_latest_pause_of_the_others) {
  lockstep_.on_start(start(4));
  (void)lockstep_.post(true);
  lockstep_.wish_pause({4, PauseMode::kNone});
  (void)lockstep_.on_agreed(summary_of({.has_work = true, .pause = {3, PauseMode::kKeep}}));
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kKeep);
  lockstep_.on_step_done(false);
  EXPECT_EQ(lockstep_.post(true).pause, (PauseWish{4, PauseMode::kNone})) << "asked for since";
}

TEST_F(LockstepTest, a_call_that_comes_late_does_not_undo_a_later_one) {
  lockstep_.wish_pause({2, PauseMode::kNone});
  lockstep_.wish_pause({1, PauseMode::kKeep});
  EXPECT_EQ(lockstep_.pause().mode, PauseMode::kNone);
}

// The whole small space: any order of combining gives the same, and what is said twice changes
// nothing.
TEST(StepSummary, combining_is_associative_commutative_and_idempotent) {
  std::array<StepSummary, 16> all;
  for (uint32_t i = 0; i < all.size(); ++i) {
    all[i] = summary_of({.has_work = (i & 1) != 0,
                         .next = WaveId{i >> 1 & 1},
                         .pause = {i >> 2 & 1, static_cast<PauseMode>(i >> 3)}});
  }
  for (const StepSummary& a : all) {
    EXPECT_EQ(combine(a, a), a);
    for (const StepSummary& b : all) {
      EXPECT_EQ(combine(a, b), combine(b, a));
      for (const StepSummary& c : all) {
        EXPECT_EQ(combine(combine(a, b), c), combine(a, combine(b, c)));
      }
    }
  }
}

TEST(RecordTable, gives_a_summary_when_all_records_are_there) {
  RecordTable table(3);
  const std::array<uint32_t, 2> ranks = {0, 2};
  table.put(0, {.wave = WaveId{1}, .step = 5});
  EXPECT_FALSE(table.gather(WaveId{1}, 5, ranks));
  table.put(2, {.wave = WaveId{1}, .step = 5, .has_work = true});
  EXPECT_EQ(table.gather(WaveId{1}, 5, ranks), work());
}

TEST(RecordTable, keeps_the_last_two_whatever_is_said_again) {
  RecordTable table(1);
  for (const uint64_t step : {1, 2, 3, 1, 2, 3, 1}) table.put(0, {.wave = WaveId{1}, .step = step});
  EXPECT_EQ(table.find(0, WaveId{1}, 1), nullptr);
  EXPECT_NE(table.find(0, WaveId{1}, 2), nullptr);
  EXPECT_NE(table.find(0, WaveId{1}, 3), nullptr);
  table.put(0, {.wave = WaveId{2}, .step = 1});
  EXPECT_NE(table.find(0, WaveId{1}, 3), nullptr);
  table.put(7, {.wave = WaveId{2}, .step = 1});
  EXPECT_EQ(table.find(7, WaveId{2}, 1), nullptr);
}

}  // namespace
}  // namespace trireme::engine
