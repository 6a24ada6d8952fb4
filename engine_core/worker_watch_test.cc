// Goal: of a late step the right worker is named, with what it is at and for how long.
// Method: sightings written by hand, times too.
#include "engine_core/worker_watch.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

using std::chrono::milliseconds;
using worker::WorkerPhase;

constexpr StepId kLate{812};

WorkerSighting at(WorkerPhase phase, uint32_t layer, uint32_t changes, uint64_t step = kLate.value,
                  char state = 'R', uint64_t cpu_ticks = 7) {
  return {.pid = 4711,
          .life = {.step = StepId{step}, .phase = phase, .layer = layer, .changes = changes},
          .process = {.letter = state, .cpu_ticks = cpu_ticks}};
}

struct Fixture {
  explicit Fixture(uint32_t tp_size) : watch(EngineId{1}, tp_size) {}
  // Looked at again and again for so long, nothing changing but that who can run shows its wait.
  void look_for(Duration time, std::vector<WorkerSighting> workers) {
    for (const Instant end = now + time; now <= end; now += WorkerWatch::kInterval) {
      ++shown_waits;
      for (WorkerSighting& worker : workers) {
        if (worker.process.letter != 'D') worker.life.waits = shown_waits;
      }
      watch.look(workers, now);
    }
  }
  std::optional<uint32_t> behind() const {
    const auto found = watch.find_behind(kLate);
    return found ? std::optional(found->rank) : std::nullopt;
  }
  WorkerWatch watch;
  uint64_t shown_waits = 0;
  Instant now{std::chrono::hours(1)};
};

TEST(WorkerWatch, who_computes_is_named_before_who_waits_for_it) {
  Fixture f(2);
  f.look_for(milliseconds(5000),
             {at(WorkerPhase::kAttention, 3, 20), at(WorkerPhase::kReducing, 3, 21)});
  EXPECT_EQ(f.behind(), 0u);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker tp0 (pid 4711) has been in layer 3 (attention) of step 812 for 5.0 s; "
            "the others wait for it in all-reduce");
}

TEST(WorkerWatch, a_stopped_process_is_named_before_all_others_whatever_it_is_at) {
  Fixture f(2);
  f.look_for(milliseconds(1000),
             {at(WorkerPhase::kMlp, 2, 20), at(WorkerPhase::kReducing, 3, 21, kLate.value, 'T')});
  EXPECT_EQ(f.behind(), 1u);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker tp1 (pid 4711) is stopped (process state T) and has been in layer 3 "
            "(all-reduce) of step 812 for 1.0 s; tp0 is in layer 2 (mlp) of step 812");
}

// Its last words to another node may not have left it.
TEST(WorkerWatch, a_stopped_process_is_named_though_it_is_done) {
  Fixture f(1);
  f.look_for(milliseconds(1000),
             {at(WorkerPhase::kDone, 0, 20, kLate.value, 'T'), WorkerSighting{}});
  EXPECT_EQ(f.behind(), 0u);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker pp0 tp0 (pid 4711) is stopped (process state T) and has been in done of "
            "step 812 for 1.0 s");
}

TEST(WorkerWatch, a_worker_that_has_not_taken_the_step_is_behind) {
  Fixture f(2);
  f.look_for(milliseconds(1000),
             {at(WorkerPhase::kReducing, 0, 22), at(WorkerPhase::kDone, 0, 20, 811)});
  EXPECT_EQ(f.behind(), 1u);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker tp1 (pid 4711) has been idle with step 812 before it for 1.0 s; the "
            "others wait for it in all-reduce");
}

TEST(WorkerWatch, who_has_the_result_or_is_out_of_sight_is_not_behind) {
  Fixture f(1);
  f.look_for(milliseconds(500), {at(WorkerPhase::kDone, 0, 20), WorkerSighting{},
                                 at(WorkerPhase::kMlp, 9, 5), at(WorkerPhase::kMlp, 1, 9, 813)});
  EXPECT_EQ(f.behind(), 2u);
  EXPECT_EQ(f.watch.name_of(2), "rank 1 worker pp2 tp0 (pid 4711)");
}

TEST(WorkerWatch, of_peers_that_all_wait_the_one_that_came_less_far_is_named) {
  Fixture f(2);
  const auto ahead = at(WorkerPhase::kReducing, 3, 21);
  f.look_for(milliseconds(500), {ahead, at(WorkerPhase::kReducing, 3, 20)});
  EXPECT_EQ(f.behind(), 1u);
  f.look_for(milliseconds(500), {ahead, ahead});
  EXPECT_EQ(f.behind(), std::nullopt);
  EXPECT_EQ(f.watch.describe(kLate),
            "no worker in sight is behind the others: tp0 is in layer 3 (all-reduce) of step 812, "
            "tp1 is in layer 3 (all-reduce) of step 812");
}

TEST(WorkerWatch, the_count_of_changes_may_wrap) {
  Fixture f(2);
  f.look_for(milliseconds(500),
             {at(WorkerPhase::kMlp, 3, 1), at(WorkerPhase::kMlp, 2, UINT32_MAX)});
  EXPECT_EQ(f.behind(), 1u);
}

TEST(WorkerWatch, a_pipeline_stage_that_waits_is_not_blamed_for_the_one_before) {
  Fixture f(1);
  f.look_for(milliseconds(500),
             {at(WorkerPhase::kLogits, 4, 90), at(WorkerPhase::kReceiving, 0, 3)});
  EXPECT_EQ(f.behind(), 0u);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker pp0 tp0 (pid 4711) has been in logits of step 812 for 0.5 s; pp1 tp0 is "
            "in a wait for the stage before of step 812");
}

TEST(WorkerWatch, who_may_wait_for_one_out_of_sight_is_not_named_for_a_peer_that_is_ahead) {
  Fixture f(2);
  const auto ahead = at(WorkerPhase::kReducing, 3, 21, kLate.value + 1);
  f.look_for(milliseconds(500),
             {ahead, at(WorkerPhase::kSending, 3, 20), WorkerSighting{}, WorkerSighting{}});
  EXPECT_EQ(f.behind(), std::nullopt);
  f.look_for(milliseconds(500), {WorkerSighting{}, at(WorkerPhase::kReducing, 3, 20)});
  EXPECT_EQ(f.behind(), std::nullopt);
}

TEST(WorkerWatch, cpu_time_keeps_a_still_worker_from_being_motionless) {
  Fixture f(1);
  f.look_for(milliseconds(2000), {at(WorkerPhase::kMlp, 3, 20, kLate.value, 'R', 7)});
  f.look_for(milliseconds(1000), {at(WorkerPhase::kMlp, 3, 20, kLate.value, 'R', 8)});
  const auto behind = f.watch.find_behind(kLate);
  ASSERT_TRUE(behind.has_value());
  EXPECT_EQ(behind->still, milliseconds(3250));
  EXPECT_EQ(behind->motionless, milliseconds(1000));
}

TEST(WorkerWatch, who_loads_experts_may_wait_longer_for_its_disk_unless_it_is_stopped) {
  Fixture f(1);
  auto loading = at(WorkerPhase::kLoadingExperts, 3, 20, kLate.value, 'D');
  f.look_for(milliseconds(3000), {loading});
  ASSERT_TRUE(f.watch.find_behind(kLate)->is_loading);
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(3000));
  EXPECT_EQ(f.watch.facts(kLate).phase, wire::StallPhase::kLoadExperts);
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker tp0 (pid 4711) has been in layer 3 (load of experts) of step 812 for "
            "3.0 s");
  ++loading.life.asides;
  f.look_for(milliseconds(0), {loading});
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, Duration{}) << "the next piece";
  loading.process.letter = 'T';
  f.look_for(milliseconds(0), {loading});
  EXPECT_FALSE(f.watch.find_behind(kLate)->is_loading);
  f.look_for(milliseconds(0), {at(WorkerPhase::kComputingExperts, 3, 22)});
  EXPECT_FALSE(f.watch.find_behind(kLate)->is_loading);
  EXPECT_EQ(WorkerWatch::motionless_max(true, milliseconds(3000)), WorkerWatch::kLoadingMax);
  EXPECT_EQ(WorkerWatch::motionless_max(false, milliseconds(3000)), milliseconds(3000));
}

// A frozen cgroup, or a dead disk under a page: to the others it is one that waits as they do.
TEST(WorkerWatch, who_waits_and_does_not_show_it_cannot_run_and_is_behind) {
  Fixture f(1);
  auto lives = at(WorkerPhase::kCombining, 3, 20);
  auto frozen = at(WorkerPhase::kDispatching, 3, 20, kLate.value, 'D');
  frozen.life.awaited = 4;
  f.look_for(milliseconds(750), {lives, frozen});
  EXPECT_EQ(f.watch.find_awaited_ranks(), std::vector<uint32_t>{4}) << "it may well wait";
  f.look_for(milliseconds(250), {lives, frozen});
  EXPECT_EQ(f.behind(), std::nullopt);
  EXPECT_EQ(f.watch.find_awaited_ranks(), std::vector<uint32_t>{}) << "that rank is not accused";
  EXPECT_EQ(f.watch.facts(kLate).awaited_ranks, std::vector<uint32_t>{});
  f.look_for(milliseconds(250), {lives, frozen});
  EXPECT_EQ(f.behind(), 1u);
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(1750));
  EXPECT_EQ(f.watch.facts(kLate),
            (wire::Stall{.phase = wire::StallPhase::kDispatch, .worker_pid = 4711}));
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker pp1 tp0 (pid 4711) shows no sign of life (process state D) and has been "
            "in layer 3 (dispatch to experts) of step 812 for 1.8 s; pp0 tp0 is in layer 3 "
            "(combine of experts) of step 812");
  lives.life.phase = WorkerPhase::kMlp;
  f.look_for(milliseconds(0), {lives, frozen});
  EXPECT_EQ(f.behind(), 1u) << "before one that computes";
  frozen.process.letter = 'S';
  f.look_for(milliseconds(0), {lives, frozen});
  EXPECT_EQ(f.behind(), 0u) << "it was thawed";
}

// As before: it has all that it waits for.
TEST(WorkerWatch, a_sign_of_waiting_is_no_progress) {
  Fixture f(2);
  f.look_for(milliseconds(9000),
             {at(WorkerPhase::kReducing, 3, 20), at(WorkerPhase::kReducing, 3, 21)});
  EXPECT_EQ(f.watch.find_behind(kLate)->still, milliseconds(9000));
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(9000));
}

TEST(WorkerWatch, who_is_done_with_an_earlier_step_of_the_same_number_is_behind) {
  Fixture f(1);
  auto done = at(WorkerPhase::kDone, 3, 20, kLate.value, 'S');
  done.life.begun = 9;
  done.steps_due = 9;
  f.look_for(milliseconds(3000), {done});
  EXPECT_EQ(f.behind(), std::nullopt) << "it has the result";
  f.watch.begin();
  done.steps_due = 10;
  f.look_for(milliseconds(3000), {done});
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(3000));
  EXPECT_EQ(f.watch.facts(kLate),
            (wire::Stall{.phase = wire::StallPhase::kQueue, .worker_pid = 4711}));
  EXPECT_EQ(f.watch.describe(kLate),
            "rank 1 worker tp0 (pid 4711) has been idle with step 812 before it for 3.0 s");
  done.life.begun = 10;
  f.look_for(milliseconds(0), {done});
  EXPECT_EQ(f.behind(), std::nullopt);
  f.look_for(milliseconds(0), {WorkerSighting{.steps_due = 10}});
  EXPECT_EQ(f.behind(), std::nullopt) << "out of sight";
}

TEST(WorkerWatch, who_has_not_answered_a_call_between_steps_is_behind_whatever_it_was_at) {
  Fixture f(2);
  WorkerSighting answered = at(WorkerPhase::kDone, 0, 20, 811, 'T');
  WorkerSighting owing = at(WorkerPhase::kDone, 0, 20, 811, 'T');
  owing.owes_answer = true;
  f.look_for(milliseconds(3000), {answered, owing});
  EXPECT_EQ(f.watch.find_behind(WorkerWatch::kNoStep)->rank, 1u);
  EXPECT_EQ(f.watch.find_behind(WorkerWatch::kNoStep)->motionless, milliseconds(3000));
  EXPECT_EQ(f.watch.facts(WorkerWatch::kNoStep),
            (wire::Stall{.phase = wire::StallPhase::kQueue, .worker_pid = 4711}));
  EXPECT_EQ(f.watch.describe(WorkerWatch::kNoStep),
            "rank 1 worker tp1 (pid 4711) is stopped (process state T) and has been idle with a "
            "call before it for 3.0 s");
  owing.owes_answer = false;
  f.look_for(milliseconds(0), {answered, owing});
  EXPECT_FALSE(f.watch.find_behind(WorkerWatch::kNoStep));
}

TEST(WorkerWatch, who_had_nothing_to_do_and_is_stopped_has_its_time_from_then_on) {
  Fixture f(1);
  f.look_for(milliseconds(9000), {at(WorkerPhase::kDone, 3, 20)});
  EXPECT_EQ(f.behind(), std::nullopt);
  f.look_for(milliseconds(0), {at(WorkerPhase::kDone, 3, 20, kLate.value, 'T')});
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, Duration{});
  f.look_for(milliseconds(2750), {at(WorkerPhase::kDone, 3, 20, kLate.value, 'T')});
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(3000));
}

TEST(WorkerWatch, time_without_a_step_does_not_count_against_who_has_not_taken_the_next) {
  Fixture f(1);
  f.look_for(milliseconds(9000), {at(WorkerPhase::kDone, 3, 20, kLate.value - 1)});
  f.watch.begin();
  f.look_for(milliseconds(250), {at(WorkerPhase::kDone, 3, 20, kLate.value - 1)});
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, milliseconds(250));
}

// A load is no change that peers make too: neither is ahead of the other by it.
TEST(WorkerWatch, pieces_of_a_load_do_not_put_a_peer_ahead) {
  Fixture f(2);
  auto loaded = at(WorkerPhase::kCombining, 3, 21);
  loaded.life.asides = 40;
  f.look_for(milliseconds(9000), {at(WorkerPhase::kReducing, 3, 22), loaded});
  EXPECT_EQ(f.behind(), std::nullopt) << "all may wait for a rank out of sight";
}

TEST(WorkerWatch, a_change_begins_the_time_anew) {
  Fixture f(1);
  f.look_for(milliseconds(9000), {at(WorkerPhase::kMlp, 3, 20)});
  f.look_for(milliseconds(0), {at(WorkerPhase::kAttention, 4, 21)});
  EXPECT_EQ(f.watch.find_behind(kLate)->still, Duration{});
}

TEST(WorkerWatch, ranks_are_awaited_when_workers_have_waited_for_their_places_for_a_while) {
  Fixture f(2);
  auto one = at(WorkerPhase::kDispatching, 3, 20);
  auto two = at(WorkerPhase::kCombining, 3, 21);
  one.life.awaited = 7;
  two.life.awaited = 4;
  f.look_for(milliseconds(250), {one, two});
  EXPECT_EQ(f.watch.find_awaited_ranks(), std::vector<uint32_t>{});
  f.look_for(milliseconds(250), {one, two});
  EXPECT_EQ(f.behind(), std::nullopt);
  EXPECT_EQ(f.watch.find_awaited_ranks(), (std::vector<uint32_t>{2, 3}));
  two.life.awaited.reset();  // Something has moved.
  f.look_for(milliseconds(0), {one, two});
  EXPECT_EQ(f.watch.find_awaited_ranks(), std::vector<uint32_t>{3});
  one.life.changes += 2;  // Another exchange.
  f.look_for(milliseconds(0), {one, two});
  EXPECT_EQ(f.watch.find_awaited_ranks(), std::vector<uint32_t>{});
}

TEST(WorkerWatch, time_in_which_nobody_looked_is_not_held_against_a_worker) {
  Fixture f(1);
  const std::vector<WorkerSighting> workers = {at(WorkerPhase::kMlp, 3, 20)};
  f.watch.look(workers, f.now);
  f.watch.look(workers, f.now + std::chrono::hours(8));
  EXPECT_EQ(f.watch.find_behind(kLate)->motionless, WorkerWatch::kGapMax);
}

TEST(WorkerWatch, in_fields_it_says_the_phase_and_whose_worker_is_behind_or_who_is_awaited) {
  Fixture f(2);
  f.look_for(milliseconds(500), {at(WorkerPhase::kMlp, 3, 20), at(WorkerPhase::kReducing, 3, 21)});
  EXPECT_EQ(f.watch.facts(kLate),
            (wire::Stall{.phase = wire::StallPhase::kMlp, .worker_pid = 4711}));
  f.look_for(milliseconds(500),
             {at(WorkerPhase::kDone, 0, 20, 811), at(WorkerPhase::kReducing, 3, 21)});
  EXPECT_EQ(f.watch.facts(kLate),
            (wire::Stall{.phase = wire::StallPhase::kQueue, .worker_pid = 4711}));
  f.look_for(milliseconds(500),
             {at(WorkerPhase::kDone, 0, 20, kLate.value, 'T'), at(WorkerPhase::kReducing, 3, 21)});
  EXPECT_EQ(f.watch.facts(kLate).phase, wire::StallPhase::kQueue) << "of a dummy step";
  const WorkerSighting plain = at(WorkerPhase::kDispatching, 3, 20);
  WorkerSighting waiting = at(WorkerPhase::kCombining, 3, 20);
  waiting.life.awaited = 6;  // Two places a rank.
  f.look_for(milliseconds(500), {plain, waiting});
  EXPECT_EQ(f.watch.facts(kLate),
            (wire::Stall{.phase = wire::StallPhase::kCombine, .awaited_ranks = {3}}));
  waiting.life.awaited = 2;
  f.look_for(milliseconds(500), {plain, waiting});
  EXPECT_EQ(f.watch.facts(kLate), wire::Stall{.phase = wire::StallPhase::kDispatch})
      << "its own rank is nobody else";
  f.look_for(milliseconds(500), {WorkerSighting{}, WorkerSighting{}});
  EXPECT_EQ(f.watch.facts(kLate), wire::Stall{});
}

}  // namespace
}  // namespace trireme::engine
