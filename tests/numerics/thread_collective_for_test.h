// Collectives between threads of one process: each rank is a thread.
#pragma once

#include <algorithm>
#include <barrier>
#include <memory>
#include <vector>

#include "worker/comm/collective.h"

namespace trireme::worker {

class ThreadGroup {
 public:
  explicit ThreadGroup(uint32_t size) : parts_(size), barrier_(size) {}

 private:
  friend class ThreadCollective;
  std::vector<std::span<const float>> parts_;
  std::barrier<> barrier_;
};

class ThreadCollective final : public Collective {
 public:
  ThreadCollective(ThreadGroup& group, uint32_t rank) : group_(group), rank_(rank) {}

  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override {
    return static_cast<uint32_t>(group_.parts_.size());
  }
  [[nodiscard]] Status all_reduce_sum(std::span<float> values) override {
    share(values);
    std::vector<float> sums(values.size(), 0.0F);
    for (const auto& part : group_.parts_) {
      std::ranges::transform(sums, part, sums.begin(), std::plus());
    }
    group_.barrier_.arrive_and_wait();
    std::ranges::copy(sums, values.begin());
    return absl::OkStatus();
  }
  [[nodiscard]] Status all_gather(std::span<const float> mine, std::span<float> out) override {
    share(mine);
    auto to = out.begin();
    for (const auto& part : group_.parts_) to = std::ranges::copy(part, to).out;
    return barrier();
  }
  [[nodiscard]] Status barrier() override {
    group_.barrier_.arrive_and_wait();
    return absl::OkStatus();
  }

 private:
  void share(std::span<const float> mine) {
    group_.parts_[rank_] = mine;
    group_.barrier_.arrive_and_wait();
  }

  ThreadGroup& group_;
  const uint32_t rank_;
};

}  // namespace trireme::worker
