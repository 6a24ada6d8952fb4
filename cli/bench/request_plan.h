// RequestPlan: what a load consists of before the first byte is sent: when each request goes out,
// how long its prompt is, how much it asks for. One seed is one plan.
//
// Arrivals: at an infinite rate all at time 0. Else the gaps are drawn from a gamma distribution of
// shape `burstiness` and mean 1/rate (1: a Poisson process; below: bursts; above: even gaps;
// infinite: constant), then scaled so that the last request comes at count/rate: runs with
// different seeds then offer the same load. Lengths: uniform in [floor(len * (1 - ratio)), ceil(len
// * (1 + ratio))], at least 1. Prompts: token ids, uniform in [0, vocabulary); the first prefix_len
// are the same in all. Pure; any thread.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "common/clock.h"

namespace trireme::bench {

struct PlanOptions {
  uint32_t num_prompts = 1000;
  double request_rate = std::numeric_limits<double>::infinity();  // Per second.
  double burstiness = 1;
  uint32_t input_len = 1024;
  uint32_t output_len = 128;
  double range_ratio = 0;
  uint32_t prefix_len = 0;
  uint64_t seed = 0;
};

struct PlannedRequest {
  Duration at{};           // After the start.
  uint32_t input_len = 0;  // Prefix included.
  uint32_t output_len = 0;
};

class RequestPlan {
 public:
  explicit RequestPlan(const PlanOptions& options);

  [[nodiscard]] const std::vector<PlannedRequest>& requests() const { return requests_; }
  // The prompt of one of them.
  [[nodiscard]] std::vector<uint32_t> prompt(std::size_t index, uint32_t vocabulary) const;

 private:
  PlanOptions options_;
  std::vector<PlannedRequest> requests_;
};

}  // namespace trireme::bench
