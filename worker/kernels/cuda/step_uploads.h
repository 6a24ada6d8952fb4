// StepUploads: what a step tells the device besides its queue: tokens, positions, slots, angles.
//
// place() copies an array into pinned memory and gives the address it will have on the device;
// send() queues one copy for all that was placed since the last. Arrays are valid until restart(),
// which comes when the device has finished the step. The memory grows to the largest step seen.
// Threads: the owner's.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "worker/kernels/cuda/runtime.h"

namespace trireme::worker::cuda {

class StepUploads {
 public:
  // The next step begins: what was placed is over.
  [[nodiscard]] Status restart();

  template <typename Value>
  [[nodiscard]] StatusOr<const Value*> place(std::span<const Value> values, Queue& queue) {
    TRIREME_ASSIGN_OR_RETURN(const Space space, take(values.size_bytes(), queue));
    if (!values.empty()) std::memcpy(space.host, values.data(), values.size_bytes());
    return reinterpret_cast<const Value*>(space.device);
  }
  void send(Queue& queue);

 private:
  // The same place twice.
  struct Space {
    std::byte* host;
    std::byte* device;
  };
  struct Region {
    PinnedBuffer host;
    DeviceBuffer device;
    std::size_t placed = 0;  // Bytes, and of them
    std::size_t sent = 0;    // those whose copy is queued.
  };

  [[nodiscard]] StatusOr<Space> take(std::size_t bytes, Queue& queue);
  [[nodiscard]] Status add_region(std::size_t bytes);

  std::vector<Region> regions_;  // The last one is filled; more than one: the step is the largest.
};

}  // namespace trireme::worker::cuda
