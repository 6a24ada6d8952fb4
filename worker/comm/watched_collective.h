// WatchedCollective: a collective whose waits show in its worker's sign of life.
// Threads, codes: of the collective inside.
#pragma once

#include <memory>
#include <utility>

#include "worker/comm/collective.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

class WatchedCollective final : public Collective {
 public:
  WatchedCollective(std::unique_ptr<Collective> inner, LifeSigns signs)
      : inner_(std::move(inner)), signs_(signs) {}

  [[nodiscard]] uint32_t rank() const override { return inner_->rank(); }
  [[nodiscard]] uint32_t size() const override { return inner_->size(); }
  [[nodiscard]] Status all_reduce_sum(std::span<float> values) override {
    return watched([&] { return inner_->all_reduce_sum(values); });
  }
  [[nodiscard]] Status all_gather(std::span<const float> mine, std::span<float> out) override {
    return watched([&] { return inner_->all_gather(mine, out); });
  }
  [[nodiscard]] Status barrier() override {
    return watched([&] { return inner_->barrier(); });
  }

 private:
  template <typename Call>
  Status watched(const Call& call) {
    const WorkerPhase before = signs_.phase();
    signs_.enter(WorkerPhase::kReducing);
    Status status = call();
    signs_.enter(before);
    return status;
  }

  std::unique_ptr<Collective> inner_;
  LifeSigns signs_;
};

}  // namespace trireme::worker
