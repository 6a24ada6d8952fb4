// BlockRunner: the emulated GPU's only multiprocessor. It runs the blocks of a grid one after the
// other, in order; the threads of a block are fibers.
//
//   for each block: every thread runs until it waits (at a barrier, in a warp's exchange) or ends
//                   -> what is complete is released -> again, until all have ended
//
// What a GPU would leave open comes out the same every time, or is an error:
//   - a barrier or an exchange that can never be complete (a thread that has ended, or waits
//     elsewhere) is reported with both places, where a GPU hangs or goes on with anything;
//   - shared memory holds NaNs when a block begins;
//   - ThreadOrder::kBackwards runs the last thread first: a kernel that gives other bits then lacks
//     a barrier.
// Threads: one; each thread of the host has a runner of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/kernels/cuda/on_host/fiber.h"

namespace trireme::worker::cuda::on_host {

inline constexpr uint32_t kWarpThreads = 32;
inline constexpr uint32_t kBlockThreadsMax = 1024;

struct Index3 {
  uint32_t x = 0;
  uint32_t y = 0;
  uint32_t z = 0;
};

enum class ThreadOrder { kForwards, kBackwards };

// A line of a kernel.
struct Place {
  const char* file = nullptr;
  int line = 0;

  [[nodiscard]] bool operator==(const Place&) const = default;
};

class BlockRunner {
 public:
  struct Grid {
    Index3 blocks;   // How many,
    Index3 threads;  // in each.
    std::size_t shared_bytes = 0;
  };

  [[nodiscard]] static BlockRunner& of_this_thread();

  // What went wrong, or nothing. After an error the rest of the grid has not run.
  [[nodiscard]] std::string run(const Grid& grid, const std::function<void()>& kernel);
  void set_thread_order(ThreadOrder order) { order_ = order; }

  // --- Within a kernel. ---
  void wait_for_block(Place place);
  // Each lane of `lanes` gives a value and gets that of lane `source`.
  [[nodiscard]] uint64_t exchange(uint32_t lanes, uint64_t value, uint32_t source, Place place);
  [[nodiscard]] std::byte* shared_memory() const { return shared_.get(); }

 private:
  enum class Wait { kNone, kBlock, kWarp };
  struct Thread {
    Fiber fiber;
    Index3 index;
    bool has_ended = false;
    Wait wait = Wait::kNone;
    Place place;
    uint32_t lanes = 0;
    uint64_t value = 0;
    uint32_t source = 0;
    uint64_t received = 0;
  };

  void begin_block(const Grid& grid, const std::function<void()>& kernel);
  [[nodiscard]] std::string run_block();
  void run_threads();
  [[nodiscard]] bool release_warps();
  [[nodiscard]] bool release_warp(uint32_t first);
  [[nodiscard]] bool release_block();
  [[nodiscard]] bool is_complete(const Thread& waiting, uint32_t first) const;
  [[nodiscard]] std::string why_stuck() const;
  [[nodiscard]] std::string where(std::size_t thread) const;
  void pause_current();

  std::vector<std::unique_ptr<Thread>> threads_;  // Made once, used by all blocks.
  std::size_t thread_count_ = 0;
  std::size_t current_ = 0;
  ThreadOrder order_ = ThreadOrder::kForwards;
  std::unique_ptr<std::byte[]> shared_;
};

}  // namespace trireme::worker::cuda::on_host

// The variables that every kernel reads.
extern constinit thread_local trireme::worker::cuda::on_host::Index3 threadIdx;
extern constinit thread_local trireme::worker::cuda::on_host::Index3 blockIdx;
extern constinit thread_local trireme::worker::cuda::on_host::Index3 blockDim;
extern constinit thread_local trireme::worker::cuda::on_host::Index3 gridDim;
