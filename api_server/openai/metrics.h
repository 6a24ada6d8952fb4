// Metrics: what /metrics shows, in Prometheus' text format under vLLM's names, and ours as
// trireme:.
//
// Plain numbers of one thread; rendering reads them in place. Each front end of several shows its
// own requests and the engines' state; sum over front ends.
// Threads: one owner.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api_server/engine_client/engine_client.h"
#include "api_server/http/http_server.h"

namespace trireme::api {

class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value);
  // `labels`: model_name="x", without braces.
  void append(std::string& out, std::string_view name, std::string_view labels) const;

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
  std::array<uint64_t, 5> finished{};  // By wire::FinishReason.
  uint64_t prompt_tokens_total = 0;
  uint64_t generation_tokens_total = 0;
  uint64_t prompt_tokens_cached_total = 0;
  std::array<uint64_t, 600> replies{};  // By HTTP status.
};

struct MetricsSources {
  const Metrics& metrics;
  const EngineClient& engines;
  const HttpCounters* http;  // Null before the server is open.
  std::string_view model;
  bool is_draining;
};
[[nodiscard]] std::string render_metrics(const MetricsSources& sources);

}  // namespace trireme::api
