// Goal: the counters of a metrics page are found, whoever wrote it; the figures are vLLM's.
#include "cli/bench/speculation_figures.h"

#include <gtest/gtest.h>

namespace trireme::bench {
namespace {

constexpr const char* kPage =
    "# HELP vllm:spec_decode_num_drafts_total Drafts.\n"
    "# TYPE vllm:spec_decode_num_drafts_total counter\n"
    "vllm:spec_decode_num_drafts_total{engine=\"0\"} 10\n"
    "vllm:spec_decode_num_drafts_total{engine=\"1\"} 5\n"
    "vllm:spec_decode_num_draft_tokens_total{engine=\"0\",model_name=\"a b}\"} 40.0\n"
    "vllm:spec_decode_num_accepted_tokens_total{engine=\"0\"} 1.2e+01\n"
    "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",position=\"0\"} 8\n"
    "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"1\",position=\"0\"} 1\n"
    "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",position=\"11\"} 3\n"
    "vllm:spec_decode_num_accepted_tokens_created{engine=\"0\"} 1.7e9\n"
    "vllm:num_requests_running{engine=\"0\"} 3\n";

TEST(SpeculationFigures, counters_of_all_engines_are_added) {
  const auto counts = read_speculation(kPage);
  ASSERT_TRUE(counts.has_value());
  EXPECT_EQ(counts->drafts, 15U);
  EXPECT_EQ(counts->draft_tokens, 40U);
  EXPECT_EQ(counts->accepted_tokens, 12U);
  EXPECT_EQ(counts->accepted_at_position, (std::map<uint32_t, uint64_t>{{0, 9}, {11, 3}}));
}

TEST(SpeculationFigures, a_page_without_the_counters_has_none) {
  EXPECT_FALSE(read_speculation("").has_value());
  EXPECT_FALSE(read_speculation("vllm:num_requests_running 3\n").has_value());
  EXPECT_FALSE(read_speculation("vllm:spec_decode_num_drafts_created 1.7e9\n").has_value());
}

TEST(SpeculationFigures, lines_that_cannot_be_read_are_left_out) {
  const std::string prefix = "vllm:spec_decode_num_";
  for (const char* line : {"drafts_total", "drafts_total{", "drafts_total x", "drafts_total -1",
                           "drafts_total NaN", "drafts_total 1e300", "", "}"}) {
    EXPECT_FALSE(read_speculation(prefix + line).has_value()) << line;
  }
  const auto counts = read_speculation(
      "vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"x\"} 3\n"
      "vllm:spec_decode_num_accepted_tokens_per_pos_total 3\n"
      "vllm:spec_decode_num_drafts_total 4");
  ASSERT_TRUE(counts.has_value());
  EXPECT_TRUE(counts->accepted_at_position.empty());
  EXPECT_EQ(counts->drafts, 4U);
}

TEST(SpeculationFigures, only_what_came_meanwhile_counts) {
  const SpeculationCounts before{
      .drafts = 10, .draft_tokens = 40, .accepted_tokens = 20, .accepted_at_position = {{0, 9}}};
  const SpeculationCounts after{.drafts = 20,
                                .draft_tokens = 80,
                                .accepted_tokens = 35,
                                .accepted_at_position = {{0, 18}, {1, 6}}};
  const auto found = speculation_between(before, after);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->drafts, 10U);
  EXPECT_EQ(found->draft_tokens, 40U);
  EXPECT_EQ(found->accepted_tokens, 15U);
  EXPECT_DOUBLE_EQ(found->acceptance_rate, 37.5);
  EXPECT_DOUBLE_EQ(found->acceptance_length, 2.5);
  EXPECT_EQ(found->rates_by_position, (std::vector<double>{0.9, 0.6}));
}

TEST(SpeculationFigures, nothing_guessed_has_no_figures) {
  const SpeculationCounts counts{.drafts = 10, .draft_tokens = 40};
  EXPECT_FALSE(speculation_between(counts, counts).has_value());
  EXPECT_FALSE(speculation_between(std::nullopt, counts).has_value());
  EXPECT_FALSE(speculation_between(counts, std::nullopt).has_value());
  EXPECT_FALSE(speculation_between(counts, SpeculationCounts{}).has_value()) << "restarted";
}

}  // namespace
}  // namespace trireme::bench
