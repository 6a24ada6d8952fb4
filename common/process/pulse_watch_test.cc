// Goal: who does not go on is found, and nobody else: not who starts, is debugged, or lives on a
// machine that stood still. Method: sightings and times written by hand.
#include "common/process/pulse_watch.h"

#include <gtest/gtest.h>

namespace trireme::process {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kSilenceMax = seconds(10);

struct Fixture {
  Fixture() { watch.on_started(now); }
  // Looks once a second for so long, at the same sight each time; how many looks found it stuck.
  int stuck_in(Duration time, const PulseSighting& seen) {
    int found = 0;
    for (const Instant end = now + time; now < end;) {
      now += PulseWatch::kInterval;
      found += watch.look(seen, now) ? 1 : 0;
    }
    return found;
  }
  PulseWatch watch{kSilenceMax};
  Instant now{hours(1)};
};

PulseSighting seen(uint64_t beats, char state = 'S') {
  return {.beats = beats, .process = {.letter = state}};
}

TEST(PulseWatch, who_beats_is_never_stuck) {
  Fixture f;
  for (uint64_t beats = 1; beats < 1000; ++beats) EXPECT_EQ(f.stuck_in(seconds(1), seen(beats)), 0);
}

TEST(PulseWatch, who_has_stopped_beating_is_stuck_after_the_longest_silence_in_any_process_state) {
  for (const char state : {'S', 'R', 'T', 'D'}) {
    Fixture f;
    EXPECT_EQ(f.stuck_in(seconds(1), seen(7)), 0);
    EXPECT_EQ(f.stuck_in(seconds(9), seen(7, state)), 0);
    EXPECT_EQ(f.stuck_in(seconds(1), seen(7, state)), 1);
    EXPECT_EQ(f.watch.silence(), seconds(10));
  }
}

TEST(PulseWatch, a_beat_begins_the_time_anew) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(10), seen(7)), 0);
  EXPECT_EQ(f.stuck_in(seconds(10), seen(8)), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(8)), 1);
}

TEST(PulseWatch, who_starts_may_take_as_long_as_it_likes) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(hours(1), seen(0, 'R')), 0);
  EXPECT_EQ(f.stuck_in(hours(1), seen(0, 'S')), 0);
  EXPECT_EQ(f.stuck_in(hours(1), seen(0, 'D')), 0);
}

TEST(PulseWatch, who_is_stopped_while_it_starts_is_stuck_once_it_has_been_for_so_long) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(9), seen(0, 'T')), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(0, 'S')), 0);
  EXPECT_EQ(f.stuck_in(seconds(9), seen(0, 'T')), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(0, 'T')), 1);
}

TEST(PulseWatch, who_has_a_debugger_is_let_be_and_has_a_fresh_period_when_it_leaves) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(10), seen(7)), 0);
  EXPECT_EQ(f.stuck_in(hours(1), {.beats = 7, .process = {.letter = 't'}, .is_traced = true}), 0);
  EXPECT_EQ(f.stuck_in(seconds(9), seen(7)), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(7)), 1);
}

TEST(PulseWatch, who_comes_late_itself_gives_a_fresh_period) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(10), seen(7)), 0);  // The first look saw a beat.
  f.now += hours(8);
  EXPECT_FALSE(f.watch.look(seen(7), f.now));
  EXPECT_EQ(f.stuck_in(seconds(9), seen(7)), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(7)), 1);
}

TEST(PulseWatch, a_little_late_still_counts) {
  Fixture f;
  EXPECT_FALSE(f.watch.look(seen(7), f.now));
  int looks = 0;
  do {
    f.now += milliseconds(2500);
    ++looks;
  } while (!f.watch.look(seen(7), f.now) && looks < 100);
  EXPECT_EQ(looks, 4);
}

TEST(PulseWatch, a_new_life_starts_anew) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(10), seen(7)), 0);
  f.watch.on_started(f.now);
  EXPECT_EQ(f.stuck_in(hours(1), seen(0)), 0);
}

TEST(PulseWatch, a_silence_too_short_to_mean_anything_is_not_taken) {
  Fixture f;
  f.watch = PulseWatch(seconds(1));
  f.watch.on_started(f.now);
  EXPECT_EQ(f.stuck_in(seconds(4), seen(7)), 0);
  EXPECT_EQ(f.stuck_in(seconds(1), seen(7)), 1);
}

TEST(PulseWatch, says_for_how_long_and_what_the_process_does) {
  Fixture f;
  EXPECT_EQ(f.stuck_in(seconds(11), seen(7, 'T')), 1);
  EXPECT_EQ(f.watch.describe(seen(7, 'T')),
            "killed, as its main loop made no turn for 10.0 s (process state T, stopped)");
}

}  // namespace
}  // namespace trireme::process
