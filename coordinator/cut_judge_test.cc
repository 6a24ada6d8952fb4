#include "coordinator/cut_judge.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace trireme::coordinator {
namespace {

using std::chrono::milliseconds;

class CutJudgeTest : public testing::Test {
 protected:
  // Whom each rank waits for, by rank; said again and again for so long.
  using Waits = std::map<uint32_t, std::vector<uint32_t>>;
  void say(const Waits& waits, Duration time) {
    for (const Instant end = now_ + time; now_ < end; now_ += milliseconds(250)) {
      for (const auto& [rank, awaits] : waits)
        judge_.on_report(now_, EngineId{rank}, wave_, awaits);
      take();
    }
  }
  void take() {
    for (const CutJudge::Verdict& verdict : judge_.judge(now_, nodes_)) {
      said_ +=
          absl::StrFormat("%u for %d s (%u) ", verdict.out.value,
                          std::chrono::duration_cast<std::chrono::seconds>(verdict.length).count(),
                          verdict.other.value);
    }
  }
  // Rank i is on node i / ranks_per_node.
  void on_nodes_of(uint32_t ranks_per_node, uint32_t ranks = 8) {
    nodes_.clear();
    for (uint32_t i = 0; i < ranks; ++i) nodes_[EngineId{i}] = i / ranks_per_node;
  }
  [[nodiscard]] std::string said() { return std::exchange(said_, {}); }

  CutJudgeTest() { on_nodes_of(1); }

  CutJudge judge_{CutJudge::kPatience};
  CutJudge::Nodes nodes_;
  WaveId wave_{7};
  Instant now_{std::chrono::hours(1)};
  std::string said_;
};

TEST_F(CutJudgeTest, of_two_that_wait_for_each_other_the_later_one_goes) {
  const Waits waits = {{0, {3}}, {3, {0}}};
  say(waits, milliseconds(2000));
  EXPECT_EQ(said(), "");
  EXPECT_EQ(judge_.wakeup(), now_);
  take();
  EXPECT_EQ(said(), "3 for 10 s (0) ");
  EXPECT_EQ(judge_.wakeup(), Instant::max());
}

// Rank 0 had the rows of rank 2 and waits in the next exchange for its neighbour, which had not.
TEST_F(CutJudgeTest, a_circle_over_a_neighbour_counts_and_not_without_all_of_it) {
  on_nodes_of(2, 4);
  say({{0, {1}}, {1, {2}}, {2, {0}}}, milliseconds(2500));
  EXPECT_EQ(said(), "2 for 10 s (1) 3 for 10 s (1) ");
  judge_.forget_all();
  on_nodes_of(2, 4);
  say({{0, {1}}, {1, {2}}, {2, {0}}}, milliseconds(250));
  say({{1, {2}}, {2, {0}}}, std::chrono::seconds(10));
  EXPECT_EQ(said(), "") << "rank 0 may be stopped";
}

TEST_F(CutJudgeTest, who_stopped_while_it_waited_is_not_taken_for_one_that_waits) {
  judge_.on_report(now_, EngineId{0}, wave_, {3});
  now_ += milliseconds(250);
  say({{3, {0}}}, std::chrono::seconds(10));
  EXPECT_EQ(said(), "");
}

TEST_F(CutJudgeTest, who_waits_alone_waits) {
  say({{0, {3}}, {1, {3}}, {2, {3}}}, std::chrono::seconds(60));
  EXPECT_EQ(said(), "");
}

TEST_F(CutJudgeTest, who_is_ahead_and_waits_for_both_sides_stays) {
  say({{0, {3}}, {3, {0}}, {1, {0, 3}}, {2, {0, 3}}}, milliseconds(2500));
  EXPECT_EQ(said(), "3 for 10 s (0) ");
}

TEST_F(CutJudgeTest, who_waits_for_the_last_word_of_one_whose_wave_is_over_does_not_hear_it) {
  judge_.on_end(now_, EngineId{0}, wave_);
  judge_.on_end(now_, EngineId{1}, wave_);
  say({{3, {0, 1}}}, milliseconds(2500));
  EXPECT_EQ(said(), "3 for 10 s (0) ");
  judge_.forget_all();
  say({{3, {0}}}, milliseconds(1000));
  judge_.on_end(now_, EngineId{0}, wave_);
  say({{3, {0}}}, milliseconds(1900));
  judge_.on_report(now_, EngineId{0}, wave_.next(), {});
  say({{3, {0}}}, milliseconds(1000));
  EXPECT_EQ(said(), "3 for 20 s (0) ") << "also when it is in the next one meanwhile";
}

TEST_F(CutJudgeTest, who_is_over_with_a_wave_is_not_waited_for_in_the_next) {
  judge_.on_end(now_, EngineId{0}, wave_);
  wave_ = wave_.next();
  say({{3, {0}}}, milliseconds(2500));
  EXPECT_EQ(said(), "");
}

TEST_F(CutJudgeTest, a_wait_that_ends_begins_anew) {
  const Waits waits = {{0, {3}}, {3, {0}}};
  say(waits, milliseconds(1900));
  say({{0, {}}}, milliseconds(1));
  say(waits, milliseconds(2000));
  EXPECT_EQ(said(), "");
}

TEST_F(CutJudgeTest, who_has_said_nothing_for_long_may_be_frozen_and_is_not_judged) {
  say({{0, {3}}, {3, {0}}}, milliseconds(250));
  say({{0, {3}}}, std::chrono::seconds(10));
  EXPECT_EQ(said(), "");
}

// What has piled up in its sockets meanwhile it gets in any order, and all at once.
TEST_F(CutJudgeTest, after_it_stood_still_itself_all_begins_anew) {
  const Waits waits = {{0, {3}}, {3, {0}}};
  say(waits, milliseconds(500));
  now_ += milliseconds(1500);
  for (int i = 0; i < 3; ++i) {
    for (const auto& [rank, awaits] : waits) judge_.on_report(now_, EngineId{rank}, wave_, awaits);
    take();
  }
  EXPECT_EQ(said(), "");
  say(waits, milliseconds(2000));
  EXPECT_EQ(said(), "");
  say(waits, milliseconds(250));
  EXPECT_EQ(said(), "3 for 10 s (0) ") << "they still do not hear each other";
}

TEST_F(CutJudgeTest,
       while_a_circle_is_open_it_looks_often_enough_to_know_that_it_did_not_stand_still) {
  say({{0, {3}}, {3, {0}}}, milliseconds(250));
  for (Instant end = now_ + milliseconds(1700); now_ < end; now_ = judge_.wakeup()) take();
  say({{0, {3}}, {3, {0}}}, milliseconds(500));
  EXPECT_EQ(said(), "3 for 10 s (0) ");
}

// It sleeps, and does not say again that its wave is over.
TEST_F(CutJudgeTest, whose_wave_is_over_is_not_forgotten_when_all_begins_anew) {
  judge_.on_end(now_, EngineId{0}, wave_);
  say({{3, {0}}}, milliseconds(500));
  now_ += milliseconds(1500);
  say({{3, {0}}}, milliseconds(2000));
  EXPECT_EQ(said(), "");
  say({{3, {0}}}, milliseconds(250));
  EXPECT_EQ(said(), "3 for 10 s (0) ");
}

TEST_F(CutJudgeTest, who_hears_least_goes_and_the_others_stay) {
  say({{0, {2}}, {1, {2}}, {2, {0, 1, 3}}, {3, {2}}}, milliseconds(2500));
  EXPECT_EQ(said(), "2 for 10 s (0) ");
}

TEST_F(CutJudgeTest, nodes_go_until_no_cut_is_left) {
  say({{0, {1, 2}}, {1, {0, 2}}, {2, {0, 1}}}, milliseconds(2500));
  EXPECT_EQ(said(), "2 for 10 s (0) 1 for 10 s (0) ");
}

TEST_F(CutJudgeTest, a_node_goes_as_a_whole_the_smaller_one_first) {
  on_nodes_of(2, 6);
  say({{0, {2}}, {2, {0}}}, milliseconds(2500));
  EXPECT_EQ(said(), "2 for 10 s (0) 3 for 10 s (0) ");
  on_nodes_of(2, 6);
  nodes_.erase(EngineId{1});
  say({{0, {2}}, {2, {0}}}, milliseconds(2500));
  EXPECT_EQ(said(), "0 for 10 s (2) ");
}

TEST_F(CutJudgeTest, ranks_of_one_node_have_no_link_that_could_be_cut) {
  on_nodes_of(4);
  say({{0, {3}}, {3, {0}}}, std::chrono::seconds(10));
  EXPECT_EQ(said(), "");
}

TEST_F(CutJudgeTest, a_rank_that_cannot_be_in_waves_is_not_judged) {
  nodes_.erase(EngineId{0});
  say({{0, {3}}, {3, {0}}}, std::chrono::seconds(10));
  EXPECT_EQ(said(), "");
  EXPECT_GT(judge_.wakeup(), now_ - CutJudge::kPatience);
}

TEST_F(CutJudgeTest, each_time_it_is_longer_until_it_has_been_well_for_long) {
  const Waits waits = {{0, {3}}, {3, {0}}};
  for (const char* length : {"10", "20", "40", "80", "120", "120"}) {
    say(waits, milliseconds(2500));
    EXPECT_EQ(said(), absl::StrFormat("3 for %s s (0) ", length));
    judge_.forget_all();
    now_ += std::chrono::seconds(121);
  }
  now_ += CutJudge::kOutMax + CutJudge::kForgetAfter;
  say(waits, milliseconds(2500));
  EXPECT_EQ(said(), "3 for 10 s (0) ");
}

}  // namespace
}  // namespace trireme::coordinator
