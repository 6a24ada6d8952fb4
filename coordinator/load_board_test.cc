// Tests of the load board, one rule per test.
#include "coordinator/load_board.h"

#include <gtest/gtest.h>

namespace trireme::coordinator {
namespace {

using std::chrono::milliseconds;

wire::LoadReport report(uint32_t rank, uint64_t life, uint64_t sequence, uint32_t waiting) {
  wire::LoadReport report{
      .engine = EngineId{rank}, .incarnation = Incarnation{life}, .sequence = sequence};
  report.stats.waiting = waiting;
  return report;
}

constexpr Instant kStart{std::chrono::seconds(100)};

TEST(LoadBoard, first_report_goes_out_at_once) {
  LoadBoard board;
  EXPECT_EQ(board.tick(kStart, Epoch{1}), std::nullopt);
  EXPECT_TRUE(board.on_report(report(2, 7, 1, 5)));
  const auto published = board.tick(kStart, Epoch{3});
  ASSERT_TRUE(published);
  EXPECT_EQ(published->epoch, Epoch{3});
  EXPECT_EQ(published->reports, std::vector{report(2, 7, 1, 5)});
}

TEST(LoadBoard, boards_are_100_ms_apart_and_carry_the_latest) {
  LoadBoard board;
  board.on_report(report(0, 7, 1, 1));
  ASSERT_TRUE(board.tick(kStart, Epoch{1}));
  board.on_report(report(0, 7, 2, 2));
  board.on_report(report(0, 7, 3, 3));
  EXPECT_EQ(board.tick(kStart + milliseconds(99), Epoch{1}), std::nullopt);
  EXPECT_EQ(board.wakeup(), kStart + milliseconds(100));
  const auto published = board.tick(kStart + milliseconds(100), Epoch{1});
  ASSERT_TRUE(published);
  EXPECT_EQ(published->reports.at(0).stats.waiting, 3u);
}

TEST(LoadBoard, late_and_repeated_reports_change_nothing) {
  LoadBoard board;
  board.on_report(report(0, 7, 5, 1));
  ASSERT_TRUE(board.tick(kStart, Epoch{1}));
  EXPECT_FALSE(board.on_report(report(0, 7, 5, 9)));
  EXPECT_FALSE(board.on_report(report(0, 7, 4, 9)));
  EXPECT_EQ(board.wakeup(), Instant::max());
}

TEST(LoadBoard, an_unchanged_load_is_not_published_again) {
  LoadBoard board;
  board.on_report(report(0, 7, 1, 4));
  ASSERT_TRUE(board.tick(kStart, Epoch{1}));
  EXPECT_TRUE(board.on_report(report(0, 7, 2, 4)));
  EXPECT_EQ(board.tick(kStart + milliseconds(500), Epoch{1}), std::nullopt);
}

TEST(LoadBoard, another_life_of_the_rank_begins_anew) {
  LoadBoard board;
  board.on_report(report(0, 7, 90, 4));
  EXPECT_TRUE(board.on_report(report(0, 8, 1, 0)));
  EXPECT_EQ(board.tick(kStart, Epoch{1})->reports.at(0), report(0, 8, 1, 0));
}

TEST(LoadBoard, a_rank_that_left_leaves_the_board) {
  LoadBoard board;
  board.on_report(report(0, 7, 1, 4));
  board.on_report(report(1, 8, 1, 4));
  ASSERT_TRUE(board.tick(kStart, Epoch{1}));
  board.forget(EngineId{0});
  board.forget(EngineId{0});
  EXPECT_EQ(board.tick(kStart + milliseconds(100), Epoch{2})->reports,
            std::vector{report(1, 8, 1, 4)});
}

}  // namespace
}  // namespace trireme::coordinator
