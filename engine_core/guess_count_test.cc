// Goal: the number of guesses follows how many were right lately, down to none and back. Method:
// histories of drafts; the numbers that follow.
#include "engine_core/guess_count.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

void draft(GuessCount& count, uint32_t guessed, uint32_t accepted, int times) {
  for (int i = 0; i < times; ++i) count.take(guessed, accepted);
}

TEST(GuessCount, begins_with_as_many_as_may_be) {
  GuessCount count;
  EXPECT_EQ(count.next(16), 16u);
  EXPECT_EQ(count.next(1), 1u);
}

TEST(GuessCount, stays_there_while_all_are_right) {
  GuessCount count;
  draft(count, 8, 8, 100);
  EXPECT_EQ(count.next(8), 8u);
}

TEST(GuessCount, fewer_are_guessed_the_fewer_were_right) {
  uint32_t before = 16;
  for (const uint32_t accepted : {6U, 3U, 1U}) {
    GuessCount count;
    draft(count, 8, accepted, 50);
    const uint32_t now = count.next(16);
    EXPECT_LT(now, before) << accepted << " of 8 right";
    EXPECT_GT(now, 0u) << accepted << " of 8 right";
    before = now;
  }
}

TEST(GuessCount, none_is_guessed_where_none_was_right_but_one_now_and_then) {
  GuessCount count;
  draft(count, 4, 0, 20);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t turn = 0; turn < GuessCount::kRestTurns; ++turn) {
      ASSERT_EQ(count.next(4), 0u) << turn;
    }
    ASSERT_EQ(count.next(4), 1u);
    count.take(1, 0);
  }
}

TEST(GuessCount, right_ones_bring_more_back) {
  GuessCount count;
  draft(count, 4, 0, 20);
  int turns = 0;
  while (count.next(8) < 8) {
    ASSERT_LT(++turns, 500);
    if (turns % (GuessCount::kRestTurns + 1) == 0 || turns > 200) count.take(1, 1);
  }
  EXPECT_GT(turns, 17) << "one right guess is no proof";
}

TEST(GuessCount, a_short_draft_that_was_all_right_counts_for_it) {
  GuessCount count;
  draft(count, 4, 1, 10);
  const uint32_t before = count.next(16);
  draft(count, 1, 1, 10);
  EXPECT_GT(count.next(16), before);
}

TEST(GuessCount, of_a_turn_without_room_nothing_is_learnt) {
  GuessCount count;
  draft(count, 4, 4, 10);
  count.take(0, 0);
  EXPECT_EQ(count.next(4), 4u);
}

}  // namespace
}  // namespace trireme::engine
