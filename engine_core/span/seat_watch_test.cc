// Goal: a place names and gives up a worker of its own for which its engine, elsewhere, waits; and
// none that waits itself.
// Method: sightings written by hand, times too. TP 2 x PP 2, the second stage is here.
#include "engine_core/span/seat_watch.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

using std::chrono::seconds;
using worker::WorkerPhase;

constexpr StepId kLate{812};

WorkerSighting at(WorkerPhase phase, uint64_t step, char state = 'S', uint32_t changes = 20) {
  return {.pid = 4711,
          .life = {.step = StepId{step}, .phase = phase, .layer = 3, .changes = changes},
          .process = {.letter = state, .cpu_ticks = 7}};
}

struct Fixture {
  // The first thing found in so long, of two workers that do not change, but show their waits.
  SeatWatch::Finding find_within(Duration time, WorkerSighting tp0, WorkerSighting tp1) {
    for (const Instant end = now + time; now <= end; now += WorkerWatch::kInterval) {
      watch.on_late_step(late, now);
      if (now < watch.look_at()) continue;
      tp0.life.waits = tp1.life.waits = ++shown_waits;
      auto found = watch.look({WorkerSighting{}, WorkerSighting{}, tp0, tp1}, now);
      if (found.is_news || found.stuck) return found;
    }
    return {};
  }
  SeatWatch watch{EngineId{0}, 2, seconds(8)};
  StepId late = kLate;
  uint64_t shown_waits = 0;
  Instant now{std::chrono::hours(1)};
};

TEST(SeatWatch, a_stopped_worker_is_named_and_then_stuck) {
  Fixture f;
  const auto waits = at(WorkerPhase::kReducing, kLate.value);
  const auto stopped = at(WorkerPhase::kAttention, kLate.value, 'T');
  const auto told = f.find_within(seconds(6), waits, stopped);
  EXPECT_TRUE(told.is_news && !told.stuck);
  EXPECT_EQ(told.text,
            "rank 0 worker pp1 tp1 (pid 4711) is stopped (process state T) and has been in layer 3 "
            "(attention) of step 812 for 2.0 s; the others wait for it in all-reduce");
  EXPECT_FALSE(f.find_within(seconds(6), waits, stopped).stuck) << "told again";
  const auto found = f.find_within(seconds(6), waits, stopped);
  EXPECT_EQ(found.stuck, 3u);
  EXPECT_NE(found.text.find("for 8.0 s"), std::string::npos) << found.text;
}

TEST(SeatWatch, a_worker_that_computes_is_named_later_and_again_after_twice_the_time) {
  Fixture f;
  const auto begin = f.now;
  auto computes = at(WorkerPhase::kAttention, kLate.value, 'R');
  auto waits = at(WorkerPhase::kReducing, kLate.value);
  std::vector<Duration> told;
  for (; f.now < begin + seconds(16); f.now += WorkerWatch::kInterval) {
    ++computes.process.cpu_ticks;
    ++waits.life.waits;
    f.watch.on_late_step(f.late, f.now);
    const auto found = f.watch.look({WorkerSighting{}, WorkerSighting{}, waits, computes}, f.now);
    if (found.is_news) told.push_back(f.now - begin);
  }
  EXPECT_EQ(told, (std::vector<Duration>{seconds(5), seconds(10)}));
}

TEST(SeatWatch, a_worker_that_never_took_the_step_is_stuck) {
  Fixture f;
  f.watch = SeatWatch(EngineId{0}, 2, seconds(2));
  const auto found = f.find_within(seconds(4), at(WorkerPhase::kDone, 811, 'T'),
                                   at(WorkerPhase::kReducing, kLate.value));
  EXPECT_EQ(found.stuck, 2u);
}

TEST(SeatWatch, a_worker_that_waits_for_its_disk_with_an_expert_has_longer) {
  Fixture f;
  const auto waits = at(WorkerPhase::kDispatching, kLate.value);
  const auto loading = at(WorkerPhase::kLoadingExperts, kLate.value, 'D');
  const Instant begin = f.now;
  SeatWatch::Finding found;
  while (!found.stuck && f.now - begin < seconds(100)) {
    found = f.find_within(seconds(2), waits, loading);
  }
  EXPECT_EQ(found.stuck, 3u);
  EXPECT_GE(f.now - begin, WorkerWatch::kLoadingMax);
  EXPECT_LT(f.now - begin, WorkerWatch::kLoadingMax + seconds(2));
}

TEST(SeatWatch, workers_that_wait_for_those_elsewhere_are_left_in_peace) {
  Fixture f;
  const auto receives = at(WorkerPhase::kReceiving, kLate.value);
  const auto ahead = at(WorkerPhase::kReducing, kLate.value, 'S', 21);
  EXPECT_EQ(f.find_within(seconds(900), ahead, receives).text, "");
  EXPECT_EQ(f.find_within(seconds(900), receives, receives).text, "");
}

TEST(SeatWatch, while_no_step_is_late_nobody_looks) {
  Fixture f;
  f.watch.on_late_step(kLate, f.now);
  EXPECT_EQ(f.watch.look_at(), f.now);
  f.watch.on_late_step(StepId{}, f.now);
  EXPECT_EQ(f.watch.look_at(), Instant::max());
}

TEST(SeatWatch, of_a_step_that_ends_in_time_nothing_is_told) {
  Fixture f;
  const auto stopped = at(WorkerPhase::kAttention, kLate.value, 'T');
  EXPECT_EQ(f.find_within(seconds(1), stopped, stopped).text, "");
  f.late = StepId{};
  EXPECT_EQ(f.find_within(seconds(100), stopped, stopped).text, "");
}

}  // namespace
}  // namespace trireme::engine
