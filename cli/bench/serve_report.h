// ServeReport: samples -> the figures of `bench serve`, with vLLM's names and definitions.
//
//   ttft   time to first token            tpot  (latency - ttft) / (tokens - 1), of each request of
//   itl    from one piece to the next           two tokens and more
//   e2el   end-to-end latency             client_queue_time  what --max-concurrency held back
// Means, medians, population deviations; percentiles between two samples are interpolated linearly
// (numpy's default). Failed and unfinished requests are counted and in nothing else.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/bench/sample.h"
#include "cli/bench/speculation_figures.h"

namespace trireme::bench {

struct ReportOptions {
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl"};
  std::vector<double> percentiles = {99};
  std::map<std::string, double> goodput;  // ttft, tpot, e2el: at most so many milliseconds.
  double request_rate = 0;                // As configured.
  std::optional<uint32_t> max_concurrency;
};

struct Distribution {
  double mean = 0;
  double median = 0;
  double std = 0;
  std::vector<double> percentiles;  // In the order of ReportOptions.
};

struct ServeFigures {
  double duration = 0;  // Seconds.
  uint64_t completed = 0;
  uint64_t failed = 0;
  uint64_t unfinished = 0;  // Cut by Ctrl-C.
  uint64_t total_input_tokens = 0;
  uint64_t total_output_tokens = 0;
  double request_throughput = 0;
  double request_goodput = 0;
  double output_throughput = 0;
  double total_token_throughput = 0;
  double max_output_tokens_per_s = 0;  // Pieces in the best second.
  uint64_t max_concurrent_requests = 0;
  std::map<std::string, Distribution> milliseconds;  // By metric.
  std::optional<SpeculationFigures> speculation;     // The caller's to fill in.
};

[[nodiscard]] double percentile(std::span<const double> sorted, double percent);
[[nodiscard]] Distribution distribution(std::vector<double> values,
                                        std::span<const double> percents);
[[nodiscard]] ServeFigures figures(std::span<const Sample> samples, Duration duration,
                                   const ReportOptions& options);
// "99", "99.9"
[[nodiscard]] std::string percent_word(double percent);

// The table that is printed.
[[nodiscard]] std::string table(const ServeFigures& figures, const ReportOptions& options);
// The figures as members of a JSON object, without its braces.
[[nodiscard]] std::string json_members(const ServeFigures& figures, const ReportOptions& options);
// --save-detailed: one list per field, an entry a request.
[[nodiscard]] std::string detailed_json_members(std::span<const Sample> samples, Instant begin);
// The most frequent reasons, most frequent first: "12 x HTTP 400: ...".
[[nodiscard]] std::string failure_lines(std::span<const Sample> samples, std::size_t lines_max);

[[nodiscard]] bool is_metric(std::string_view name);

}  // namespace trireme::bench
