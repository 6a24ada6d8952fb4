// Goal: the figures are those that vLLM computes from the same samples (numpy's definitions).
#include "cli/bench/serve_report.h"

#include <gtest/gtest.h>

#include <limits>

namespace trireme::bench {
namespace {

using std::chrono::milliseconds;

Sample completed(int64_t start, int64_t ttft, std::vector<int64_t> itls, uint32_t tokens) {
  Sample sample{.state = SampleState::kCompleted,
                .start = Instant(milliseconds(start)),
                .ttft = milliseconds(ttft),
                .latency = milliseconds(ttft),
                .prompt_tokens = 10,
                .output_tokens = tokens};
  for (const int64_t itl : itls) {
    sample.itls.push_back(milliseconds(itl));
    sample.latency += milliseconds(itl);
  }
  return sample;
}

Sample failed(const char* why) { return {.state = SampleState::kFailed, .error = why}; }

TEST(ServeReport, percentiles_are_interpolated_as_numpy_does) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(values, 50), 3);
  EXPECT_DOUBLE_EQ(percentile(values, 90), 6.8);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 8);
  EXPECT_DOUBLE_EQ(percentile({}, 99), 0);
  EXPECT_DOUBLE_EQ(percentile(std::vector<double>{5}, 99), 5);
}

TEST(ServeReport, deviation_is_the_populations) {
  const Distribution found = distribution({4, 2, 2, 4}, {});
  EXPECT_DOUBLE_EQ(found.mean, 3);
  EXPECT_DOUBLE_EQ(found.std, 1);
}

TEST(ServeReport, throughputs_and_latencies_follow_from_the_samples) {
  const std::vector<Sample> samples = {completed(1000, 100, {10, 30}, 5),
                                       completed(1050, 200, {}, 1), failed("x"), Sample{}};
  const ReportOptions options{.percentile_metrics = {"ttft", "tpot", "itl", "e2el"},
                              .percentiles = {50, 99}};
  const ServeFigures found = figures(samples, milliseconds(2000), options);
  EXPECT_EQ(found.completed, 2);
  EXPECT_EQ(found.failed, 1);
  EXPECT_EQ(found.unfinished, 1);
  EXPECT_EQ(found.total_input_tokens, 20);
  EXPECT_EQ(found.total_output_tokens, 6);
  EXPECT_DOUBLE_EQ(found.request_throughput, 1);
  EXPECT_DOUBLE_EQ(found.output_throughput, 3);
  EXPECT_DOUBLE_EQ(found.total_token_throughput, 13);
  EXPECT_EQ(found.max_concurrent_requests, 2);
  EXPECT_DOUBLE_EQ(found.max_output_tokens_per_s, 4);
  EXPECT_DOUBLE_EQ(found.milliseconds.at("ttft").mean, 150);
  EXPECT_DOUBLE_EQ(found.milliseconds.at("tpot").mean, 10);  // 40 ms over 4; one token has none.
  EXPECT_DOUBLE_EQ(found.milliseconds.at("itl").median, 20);
  EXPECT_DOUBLE_EQ(found.milliseconds.at("e2el").percentiles[0], 170);
}

TEST(ServeReport, requests_that_follow_one_another_are_never_two_at_once) {
  const std::vector<Sample> samples = {completed(0, 100, {}, 1), completed(100, 100, {}, 1)};
  EXPECT_EQ(figures(samples, milliseconds(200), {}).max_concurrent_requests, 1);
}

TEST(ServeReport, goodput_counts_requests_that_keep_every_bound) {
  const std::vector<Sample> samples = {completed(0, 100, {10, 30}, 3), completed(0, 90, {50}, 2),
                                       completed(0, 10, {}, 1)};
  const ReportOptions options{.goodput = {{"ttft", 95}, {"tpot", 40}}};
  EXPECT_DOUBLE_EQ(figures(samples, milliseconds(1000), options).request_goodput, 1);
}

TEST(ServeReport, nothing_completed_is_all_zeros_and_no_error) {
  const ServeFigures found = figures(std::vector<Sample>{failed("x")}, {}, {});
  EXPECT_EQ(found.request_throughput, 0);
  EXPECT_EQ(found.milliseconds.at("ttft").percentiles, std::vector<double>{0});
}

TEST(ServeReport, table_looks_as_vllms) {
  const std::vector<Sample> samples = {completed(0, 100, {10}, 2)};
  const ReportOptions options{.percentile_metrics = {"ttft"},
                              .percentiles = {99.9},
                              .request_rate = std::numeric_limits<double>::infinity(),
                              .max_concurrency = 4};
  const std::string text = table(figures(samples, milliseconds(500), options), options);
  EXPECT_EQ(text,
            "============ Serving Benchmark Result ============\n"
            "Successful requests:                     1         \n"
            "Failed requests:                         0         \n"
            "Maximum request concurrency:             4         \n"
            "Benchmark duration (s):                  0.50      \n"
            "Total input tokens:                      10        \n"
            "Total generated tokens:                  2         \n"
            "Request throughput (req/s):              2.00      \n"
            "Output token throughput (tok/s):         4.00      \n"
            "Peak output token throughput (tok/s):    2.00      \n"
            "Peak concurrent requests:                1.00      \n"
            "Total token throughput (tok/s):          24.00     \n"
            "---------------Time to First Token----------------\n"
            "Mean TTFT (ms):                          100.00    \n"
            "Median TTFT (ms):                        100.00    \n"
            "P99.9 TTFT (ms):                         100.00    \n"
            "==================================================\n");
}

ServeFigures with_speculation() {
  ServeFigures found;
  found.speculation = {.drafts = 10,
                       .draft_tokens = 40,
                       .accepted_tokens = 15,
                       .acceptance_rate = 37.5,
                       .acceptance_length = 2.5,
                       .rates_by_position = {0.75, 0.5}};
  return found;
}

TEST(ServeReport, speculation_stands_in_the_table_as_vllms) {
  const std::string text = table(with_speculation(), {});
  EXPECT_EQ(text.substr(text.find("---------------Spec")),
            "---------------Speculative Decoding---------------\n"
            "Acceptance rate (%):                     37.50     \n"
            "Acceptance length:                       2.50      \n"
            "Drafts:                                  10        \n"
            "Draft tokens:                            40        \n"
            "Accepted tokens:                         15        \n"
            "Per-position acceptance (%):\n"
            "  Position 0:                            75.00     \n"
            "  Position 1:                            50.00     \n"
            "==================================================\n");
  EXPECT_EQ(table({}, {}).find("Speculative"), std::string::npos);
}

TEST(ServeReport, json_has_vllms_fields_of_speculation_where_tokens_were_guessed) {
  const std::string json = json_members(with_speculation(), {});
  const std::string expected =
      R"("rtfx": 0.0, "spec_decode_acceptance_rate": 37.5, "spec_decode_acceptance_length": 2.5, )"
      R"("spec_decode_num_drafts": 10, "spec_decode_draft_tokens": 40, )"
      R"("spec_decode_accepted_tokens": 15, )"
      R"("spec_decode_per_position_acceptance_rates": [0.75, 0.5])";
  EXPECT_NE(json.find(expected), std::string::npos) << json;
  const std::string without = json_members({}, {});
  EXPECT_NE(without.find(R"("rtfx": 0.0)"), std::string::npos) << without;
  EXPECT_EQ(without.find("spec_decode"), std::string::npos) << without;
}

TEST(ServeReport, reasons_of_failures_come_most_frequent_first) {
  const std::vector<Sample> samples = {failed("a"), failed("b"), failed("b"), failed("c")};
  EXPECT_EQ(failure_lines(samples, 1), "  2 x b\n  and 2 more\n");
}

}  // namespace
}  // namespace trireme::bench
