// ResultGathering: one result of a step out of those of all workers, where each of them may have
// lost blocks of its store: the output rank's, with what any of them lost. It is there when the
// last worker has answered. Each worker answers the steps in their order. Threads: one owner.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/status.h"
#include "proto/step.h"

namespace trireme::engine {

class ResultGathering {
 public:
  ResultGathering(uint32_t worker_count, uint32_t output_rank)
      : output_rank_(output_rank), answered_(worker_count, 0) {}

  // The whole result when this was its last part. kDataLoss: the worker answers another step than
  // the others, or more steps than can be in flight.
  [[nodiscard]] StatusOr<std::optional<wire::StepResult>> take(uint32_t rank,
                                                               wire::StepResult result);

 private:
  static constexpr std::size_t kOpenMax = 64;

  struct Open {
    uint32_t parts = 0;
    StepId step;
    wire::StepResult whole;
    std::vector<uint32_t> lost_slots;
    uint32_t failed_load_count = 0;
  };

  uint32_t output_rank_;
  std::vector<std::size_t> answered_;  // By rank: how many of the open steps.
  std::deque<Open> open_;
};

}  // namespace trireme::engine
