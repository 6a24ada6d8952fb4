// ChoiceMeter: each metric of a request has the value that vLLM gives it.
#include "api_server/openai/choice_meter.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

using std::chrono::milliseconds;

// "<count>:<sum>"
std::string told(const Histogram& histogram) {
  std::string page;
  histogram.append(page, "h", "");
  const auto after = [&](std::string_view mark) {
    const std::size_t from = page.find(mark) + mark.size();
    return page.substr(from, page.find('\n', from) - from);
  };
  return after("h_count{} ") + ":" + absl::StrFormat("%g", std::stod(after("h_sum{} ")));
}

TEST(ChoiceMeter, phases_of_a_request_are_the_engines_and_add_up) {
  Metrics metrics;
  const Instant start = Instant{} + milliseconds(1000);
  ChoiceMeter meter(start, 40);
  meter.take({.token_ids = {1},
              .cached_prompt_tokens = 16,
              .queue_microseconds = 20'000,
              .prefill_microseconds = 50'000},
             start + milliseconds(100), metrics);
  meter.take({.token_ids = {2}, .preemptions = 1}, start + milliseconds(200), metrics);
  meter.take({.token_ids = {3}, .preemptions = 2}, start + milliseconds(500), metrics);
  meter.end(wire::FinishReason::kStop, 3, start + milliseconds(501), metrics);
  EXPECT_EQ(told(metrics.ttft_seconds), "1:0.1");
  EXPECT_EQ(told(metrics.itl_seconds), "2:0.4");
  EXPECT_EQ(told(metrics.e2e_seconds), "1:0.501");
  EXPECT_EQ(told(metrics.queue_seconds), "1:0.02");
  EXPECT_EQ(told(metrics.prefill_seconds), "1:0.05");
  EXPECT_EQ(told(metrics.decode_seconds), "1:0.4");
  EXPECT_EQ(told(metrics.inference_seconds), "1:0.45");
  EXPECT_EQ(told(metrics.time_per_output_token_seconds), "1:0.2");
  EXPECT_EQ(told(metrics.preemptions), "1:2");
  EXPECT_EQ(told(metrics.prompt_tokens), "1:40");
  EXPECT_EQ(told(metrics.prefill_computed_tokens), "1:24");
  EXPECT_EQ(told(metrics.generation_tokens), "1:3");
  EXPECT_EQ(metrics.prompt_tokens_total, 40u);
  EXPECT_EQ(metrics.prompt_tokens_cached_total, 16u);
  EXPECT_EQ(metrics.generation_tokens_total, 3u);
  EXPECT_EQ(metrics.finished[static_cast<std::size_t>(wire::FinishReason::kStop)], 1u);
}

TEST(ChoiceMeter, one_token_has_no_time_per_output_token) {
  Metrics metrics;
  ChoiceMeter meter(Instant{} + milliseconds(1), 4);
  meter.take({.token_ids = {1}}, Instant{} + milliseconds(5), metrics);
  meter.end(wire::FinishReason::kLength, 1, Instant{} + milliseconds(6), metrics);
  EXPECT_EQ(told(metrics.time_per_output_token_seconds), "0:0");
  EXPECT_EQ(told(metrics.decode_seconds), "1:0");
}

TEST(ChoiceMeter, what_the_first_output_says_counts_though_it_has_no_token_yet) {
  Metrics metrics;
  ChoiceMeter meter(Instant{} + milliseconds(1), 40);
  meter.take({.cached_prompt_tokens = 16, .queue_microseconds = 7'000}, Instant{} + milliseconds(3),
             metrics);
  EXPECT_EQ(metrics.prompt_tokens_total, 0u);
  meter.take({.token_ids = {1}}, Instant{} + milliseconds(5), metrics);
  meter.end(wire::FinishReason::kLength, 1, Instant{} + milliseconds(6), metrics);
  EXPECT_EQ(told(metrics.queue_seconds), "1:0.007");
  EXPECT_EQ(metrics.prompt_tokens_cached_total, 16u);
}

}  // namespace
}  // namespace trireme::api
