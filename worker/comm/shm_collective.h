// ShmCollective: the collective of tensor-parallel ranks on one node, over shared memory.
//
//   memory:  Header | Doorbell | Cell[size] | part[2][size][kPartFloats]
//
// Operation n: each rank copies its part into part[n % 2][rank] and stores n into its cell; when
// all cells have reached n, every rank reads all parts in rank order. Two buffers suffice: a rank
// that has arrived at n - 1 has read all of n - 2. Longer arrays go piece by piece.
//
// A rank that waits spins shortly, then sleeps on a futex. A rank that is late beyond the limit is
// named, and breaks the group for everybody at once; ranks that call with different counts do too.
// Threads: one per rank. Several ranks may be threads of one process (they share the mapping).
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "common/clock.h"
#include "common/shm/doorbell.h"
#include "common/shm/mapping.h"
#include "worker/comm/collective.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

class ShmCollective final : public Collective {
 public:
  static constexpr uint32_t kRanksMax = shm::kWaitersMax;
  static constexpr std::size_t kPartFloats = 32 * 1024;

  // Memory for a group of `size`, made once; its descriptor goes to the ranks' processes.
  [[nodiscard]] static StatusOr<shm::Mapping> create_memory(uint32_t size);
  // kDataLoss when the memory is no group of that size. `limit` bounds every wait, `life` shows it.
  [[nodiscard]] static StatusOr<std::unique_ptr<ShmCollective>> attach(
      std::shared_ptr<const shm::Mapping> memory, uint32_t rank, uint32_t size, Duration limit,
      LifeSigns life = {});

  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override { return size_; }
  [[nodiscard]] Status all_reduce_sum(std::span<float> values) override;
  [[nodiscard]] Status all_gather(std::span<const float> mine, std::span<float> out) override;
  [[nodiscard]] Status barrier() override { return exchange({}); }

 private:
  struct alignas(shm::kLine) Header {
    uint64_t magic;
    uint32_t size;
    std::atomic<uint32_t> broken;  // 1 + the rank that was missed; 0: whole.
  };
  struct alignas(shm::kLine) Cell {
    std::atomic<uint64_t> arrived;  // Operations this rank has published.
    uint64_t counts[2];             // Floats in its part of either buffer.
  };
  static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");

  [[nodiscard]] static std::size_t bytes_of(uint32_t size);

  ShmCollective(std::shared_ptr<const shm::Mapping> memory, uint32_t rank, uint32_t size,
                Duration limit, LifeSigns life);
  [[nodiscard]] Header& header() const;
  [[nodiscard]] shm::Doorbell& bell() const;
  [[nodiscard]] Cell& cell(uint32_t rank) const;
  [[nodiscard]] float* part(uint32_t rank) const;  // Of the operation that exchange() did last.
  // Publishes one piece; on success everybody's pieces are there to be read until the next call.
  [[nodiscard]] Status exchange(std::span<const float> mine);
  [[nodiscard]] bool has_arrived(uint32_t rank) const;
  [[nodiscard]] Status give_up();
  [[nodiscard]] Status broken_error() const;

  std::shared_ptr<const shm::Mapping> memory_;
  uint32_t rank_;
  uint32_t size_;
  Duration limit_;
  LifeSigns life_;
  uint64_t operation_ = 0;
  shm::SpinBudget spin_;
};

}  // namespace trireme::worker
