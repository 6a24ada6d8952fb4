// Goal: whatever the connection loses, repeats and delays, the taking end lets in each message once
// and in order. Method: both ends over a random connection; single rules besides.
#include "worker/comm/stream_ends.h"

#include <gtest/gtest.h>

#include <deque>

#include "common/random.h"

namespace trireme::worker {
namespace {

using Verdict = TakingEnd::Verdict;

TEST(StreamEnds, a_message_is_let_in_once_and_in_order) {
  TakingEnd end;
  EXPECT_EQ(end.on_message(0), Verdict::kNext);
  EXPECT_EQ(end.on_message(0), Verdict::kSeen);
  EXPECT_EQ(end.on_message(2), Verdict::kGap);
  EXPECT_EQ(end.on_message(3), Verdict::kKnownGap);
  EXPECT_EQ(end.on_message(1), Verdict::kNext);
  EXPECT_EQ(end.on_message(3), Verdict::kGap) << "another one";
}

TEST(StreamEnds, no_more_than_fit_are_kept) {
  SendingEnd out;
  TakingEnd in;
  while (out.has_room()) {
    out.mark_filled();
    out.mark_sent();
    EXPECT_EQ(in.on_message(out.next() - 1), Verdict::kNext);
  }
  EXPECT_EQ(out.filled(), kStreamMessagesMax);
  EXPECT_NE(in.on_message(kStreamMessagesMax), Verdict::kNext);
  EXPECT_FALSE(in.must_report());
  for (uint32_t i = 0; i < kStreamMessagesMax / 4; ++i) in.take();
  EXPECT_TRUE(in.must_report());
  EXPECT_TRUE(out.on_taken(in.taken()));
  EXPECT_TRUE(out.has_room());
}

TEST(StreamEnds, words_that_come_late_or_cannot_be_change_nothing) {
  SendingEnd out;
  for (int i = 0; i < 4; ++i) {
    out.mark_filled();
    out.mark_sent();
  }
  EXPECT_FALSE(out.on_taken(5));
  EXPECT_TRUE(out.on_taken(3));
  EXPECT_TRUE(out.on_taken(1));
  EXPECT_EQ(out.taken(), 3U);
  out.on_wanted(2);
  out.on_wanted(9);
  EXPECT_EQ(out.next(), 4U);
  out.on_wanted(3);
  EXPECT_EQ(out.next(), 3U);
}

TEST(StreamEnds, a_connection_that_loses_and_repeats_loses_nothing) {
  constexpr uint64_t kMessages = 2000;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    SendingEnd out;
    TakingEnd in;
    std::deque<uint64_t> on_the_way;
    while (in.taken() < kMessages) {
      if (out.filled() < kMessages && out.has_room()) out.mark_filled();
      if (out.has_unsent()) {
        if (random.below(10) != 0) on_the_way.push_back(out.next());
        out.mark_sent();
      }
      if (random.below(200) == 0) on_the_way.clear();
      if (on_the_way.empty() || random.below(100) == 0) out.on_wanted(in.arrived());
      while (!on_the_way.empty() && random.below(3) != 0) {
        if (in.on_message(on_the_way.front()) == Verdict::kGap) out.on_wanted(in.arrived());
        on_the_way.pop_front();
      }
      while (in.has_message() && random.below(3) != 0) in.take();
      if (random.below(4) == 0) {
        ASSERT_TRUE(out.on_taken(in.taken())) << "seed " << seed;
      }
    }
    EXPECT_EQ(in.arrived(), kMessages) << "seed " << seed;
  }
}

}  // namespace
}  // namespace trireme::worker
