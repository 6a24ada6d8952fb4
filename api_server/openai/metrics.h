// Metrics: what /metrics shows, in Prometheus' text format under vLLM's names, and ours as
// trireme:.
//
// Plain numbers of one thread. Of several front ends of a node each shows the sum of all
// (front_end_counters.h), and the engines as it sees them.
// Threads: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "api_server/engine_client/engine_client.h"

namespace trireme::api {

class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value);
  // `labels`: model_name="x", without braces.
  void append(std::string& out, std::string_view name, std::string_view labels) const;

  // From numbers that are counted elsewhere.
  static void append(std::string& out, std::string_view name, std::string_view labels,
                     std::span<const double> bounds, std::span<const uint64_t> counts, double sum);

  // visit(number of each histogram), for all numbers of histograms with the same bounds.
  template <typename Visit, typename... Histograms>
  static void each_number(Visit& visit, Histograms&... of) {
    const auto& first = std::get<0>(std::tie(of...));
    for (std::size_t i = 0; i < first.counts_.size(); ++i) visit(of.counts_[i]...);
    visit(of.sum_...);
  }

 private:
  std::span<const double> bounds_;  // Upper, growing; beyond the last is +Inf.
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

struct Metrics {
  Metrics();

  Histogram ttft_seconds;
  Histogram itl_seconds;
  Histogram e2e_seconds;
  Histogram queue_seconds;
  Histogram prompt_tokens;
  Histogram generation_tokens;
  Histogram params_n;
  Histogram params_tokens_max;
  Histogram time_per_output_token_seconds;
  Histogram prefill_seconds;
  Histogram decode_seconds;
  Histogram inference_seconds;
  Histogram prefill_computed_tokens;
  Histogram generation_tokens_max;  // Of a call's choices.
  Histogram preemptions;
  std::array<uint64_t, 5> finished{};  // By wire::FinishReason.
  uint64_t prompt_tokens_total = 0;
  uint64_t generation_tokens_total = 0;
  uint64_t prompt_tokens_cached_total = 0;
  std::array<uint64_t, 600> replies{};  // By HTTP status.

  static constexpr Histogram Metrics::*kHistograms[] = {&Metrics::ttft_seconds,
                                                        &Metrics::itl_seconds,
                                                        &Metrics::e2e_seconds,
                                                        &Metrics::queue_seconds,
                                                        &Metrics::prompt_tokens,
                                                        &Metrics::generation_tokens,
                                                        &Metrics::params_n,
                                                        &Metrics::params_tokens_max,
                                                        &Metrics::time_per_output_token_seconds,
                                                        &Metrics::prefill_seconds,
                                                        &Metrics::decode_seconds,
                                                        &Metrics::inference_seconds,
                                                        &Metrics::prefill_computed_tokens,
                                                        &Metrics::generation_tokens_max,
                                                        &Metrics::preemptions};
};

struct FrontEndCounters;

struct MetricsSources {
  const FrontEndCounters& counters;  // Of all front ends of the node.
  const EngineClient& engines;       // As this front end sees them.
  std::string_view model;
  std::string_view cache_labels;  // Of vllm:cache_config_info, from the flags: ,name="value"...
  bool is_draining;
};
[[nodiscard]] std::string render_metrics(const MetricsSources& sources);

}  // namespace trireme::api
