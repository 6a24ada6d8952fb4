// ShmPipe: hidden rows between two stages on one node, through a ring in shared memory.
//
//   memory:  Header | Doorbell data | Doorbell space | float[kRingFloats]
//
// The sender may run ahead by kRingFloats values; longer messages flow through the ring piece by
// piece. Who waits spins shortly, then sleeps on a futex. A wait beyond the limit names the other
// stage and breaks the pipe for both ends at once.
// Threads: one at each end; both may be in one process (they share the mapping).
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "common/clock.h"
#include "common/shm/doorbell.h"
#include "common/shm/mapping.h"
#include "worker/comm/pipe.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

class ShmPipe final : public HiddenPipe {
 public:
  static constexpr std::size_t kRingFloats = 1 << 20;

  [[nodiscard]] static StatusOr<shm::Mapping> create_memory();
  // `peer_stage` is the one at the other end; it only names it. kDataLoss: not a pipe's memory.
  [[nodiscard]] static StatusOr<std::unique_ptr<ShmPipe>> attach(
      std::shared_ptr<const shm::Mapping> memory, uint32_t peer_stage, Duration limit,
      LifeSigns life = {});

  [[nodiscard]] Status send(std::span<const float> values) override;
  [[nodiscard]] Status receive(std::span<float> values) override;

 private:
  struct alignas(shm::kLine) Header {
    uint64_t magic;
    std::atomic<uint32_t> broken;
    alignas(shm::kLine) std::atomic<uint64_t> sent;  // Values, since creation.
    alignas(shm::kLine) std::atomic<uint64_t> received;
  };

  ShmPipe(std::shared_ptr<const shm::Mapping> memory, uint32_t peer_stage, Duration limit,
          LifeSigns life);
  [[nodiscard]] Header& header() const;
  [[nodiscard]] shm::Doorbell& bell(uint32_t index) const;
  [[nodiscard]] float* ring() const;
  template <typename IsReady>
  [[nodiscard]] Status wait(uint32_t bell_index, const char* what, const IsReady& is_ready);

  std::shared_ptr<const shm::Mapping> memory_;
  uint32_t peer_stage_;
  Duration limit_;
  LifeSigns life_;  // Shows every wait.
  shm::SpinBudget spin_;
};

}  // namespace trireme::worker
