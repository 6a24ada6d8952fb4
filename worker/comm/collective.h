// Collective: what the ranks of one tensor-parallel group do together.
//
// Sums are taken in rank order on every rank, so that all get the same bits and the bits do not
// depend on timing. Every call has the deadline given at creation; a rank that does not come is
// named in the error, and after an error the group is broken: every later call fails at once.
// Threads: one thread per rank.
#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"

namespace trireme::worker {

class Collective {
 public:
  virtual ~Collective() = default;
  [[nodiscard]] virtual uint32_t rank() const = 0;
  [[nodiscard]] virtual uint32_t size() const = 0;

  // values[i] = sum over ranks, on every rank. The same count everywhere.
  [[nodiscard]] virtual Status all_reduce_sum(std::span<float> values) = 0;
  // out = [size][mine.size()], rank 0's part first, on every rank.
  [[nodiscard]] virtual Status all_gather(std::span<const float> mine, std::span<float> out) = 0;
  [[nodiscard]] virtual Status barrier() = 0;
};

// A group of one.
class SoloCollective final : public Collective {
 public:
  [[nodiscard]] uint32_t rank() const override { return 0; }
  [[nodiscard]] uint32_t size() const override { return 1; }
  [[nodiscard]] Status all_reduce_sum(std::span<float>) override { return absl::OkStatus(); }
  [[nodiscard]] Status all_gather(std::span<const float> mine, std::span<float> out) override {
    for (std::size_t i = 0; i < mine.size(); ++i) out[i] = mine[i];
    return absl::OkStatus();
  }
  [[nodiscard]] Status barrier() override { return absl::OkStatus(); }
};

}  // namespace trireme::worker
