// Pooler: makes one vector of the hidden states of a prompt, which come in the order of its tokens,
// some with each step. Sums run token by token in double, so that the bits do not depend on how the
// prompt was cut.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "proto/step.h"
#include "worker/forward_plan.h"

namespace trireme::worker {

class Pooler {
 public:
  explicit Pooler(uint32_t hidden_size) : hidden_size_(hidden_size) {}

  // `features`: of the forward that `use` is of. True: that was the last, finish() has the vector.
  bool take(uint32_t slot, const PoolUse& use, std::span<const float> features);
  // The mean of what the slot took. Empty if a value is not a number, or nothing was taken.
  [[nodiscard]] std::vector<float> finish(uint32_t slot);

 private:
  struct Sum {
    std::vector<double> values;
    uint32_t count = 0;
  };

  const uint32_t hidden_size_;
  std::unordered_map<uint32_t, Sum> sums_;  // By slot; of prompts that are part-way.
};

}  // namespace trireme::worker
