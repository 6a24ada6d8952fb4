#include "common/zmq/send_window.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/random.h"

namespace trireme::zmq {
namespace {

using Report = SendWindow::Report;

std::vector<std::byte> record_of(uint64_t number) {
  return {static_cast<std::byte>(number), static_cast<std::byte>(number >> 8)};
}

void send_all(SendWindow& window, uint32_t receiver) {
  while (window.has_unsent(receiver)) window.mark_sent(receiver);
}

TEST(SendWindow, has_room_until_the_slowest_receiver_is_a_window_behind) {
  SendWindow window(2, 3, 100);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(window.has_room(2));
    window.push(record_of(0));
  }
  EXPECT_FALSE(window.has_room(2));
  EXPECT_EQ(window.on_taken(0, 3), Report::kTaken);
  EXPECT_FALSE(window.has_room(2));
  EXPECT_EQ(window.slowest(), 1);
  EXPECT_EQ(window.backlog_of(1), 3);
  EXPECT_EQ(window.on_taken(1, 1), Report::kTaken);
  EXPECT_TRUE(window.has_room(2));
}

TEST(SendWindow, bytes_are_bounded_but_a_single_large_record_passes) {
  SendWindow window(1, 10, 100);
  EXPECT_TRUE(window.has_room(1000));
  window.push(std::vector<std::byte>(1000));
  EXPECT_FALSE(window.has_room(1));
  EXPECT_EQ(window.on_taken(0, 1), Report::kTaken);
  EXPECT_TRUE(window.has_room(100));
}

TEST(SendWindow, wanted_goes_back_and_repeats_the_same_records) {
  SendWindow window(1, 10, 100);
  for (uint64_t number = 0; number < 4; ++number) window.push(record_of(number));
  send_all(window, 0);
  EXPECT_EQ(window.on_wanted(0, 2), Report::kTaken);
  ASSERT_TRUE(window.has_unsent(0));
  EXPECT_EQ(window.next_sequence(0), 2);
  const auto again = window.next_record(0);
  EXPECT_EQ(std::vector(again.begin(), again.end()), record_of(2));
}

TEST(SendWindow, wrong_reports_change_nothing) {
  SendWindow window(1, 10, 100);
  window.push(record_of(0));
  window.push(record_of(1));
  send_all(window, 0);
  EXPECT_EQ(window.on_taken(0, 3), Report::kBeyondEnd);
  EXPECT_EQ(window.on_taken(0, 1), Report::kTaken);
  EXPECT_EQ(window.on_wanted(0, 0), Report::kTooOld);
  EXPECT_EQ(window.backlog_of(0), 1);
  EXPECT_FALSE(window.has_unsent(0));
}

// A receiver behind a lossy link, driven only by what the wire rules allow: each seed one history.
TEST(SendWindow, every_history_of_losses_delivers_everything_in_order) {
  constexpr uint64_t kRecords = 40;
  for (uint64_t seed = 0; seed < 2'000; ++seed) {
    Random random(seed);
    SendWindow window(2, 5, 1000);
    uint64_t pushed = 0;
    uint64_t next[2] = {0, 0};
    while (next[0] < kRecords || next[1] < kRecords) {
      if (pushed < kRecords && window.has_room(2)) window.push(record_of(pushed++));
      const auto receiver = static_cast<uint32_t>(random.below(2));
      if (window.has_unsent(receiver) && random.below(3) > 0) {
        const uint64_t sequence = window.next_sequence(receiver);
        const auto bytes = window.next_record(receiver);
        ASSERT_EQ(std::vector(bytes.begin(), bytes.end()), record_of(sequence)) << "seed " << seed;
        window.mark_sent(receiver);
        const bool is_lost = random.below(4) == 0;
        if (!is_lost && sequence == next[receiver]) ++next[receiver];
      } else if (random.below(2) == 0) {
        ASSERT_EQ(window.on_wanted(receiver, next[receiver]), Report::kTaken) << "seed " << seed;
      } else {
        ASSERT_EQ(window.on_taken(receiver, next[receiver]), Report::kTaken) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace trireme::zmq
