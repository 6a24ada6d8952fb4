// Queue: the stream that operators are queued on, and the first error of it. After an error nothing
// more is queued, until it is forgotten: what would be computed means nothing. Threads: one.
#pragma once

#include "worker/kernels/cuda/toolkit.h"

namespace trireme::worker::cuda {

struct Queue {
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaSuccess;

  [[nodiscard]] bool is_usable() const { return error == cudaSuccess; }
  void keep(cudaError_t next) {
    if (is_usable()) error = next;
  }
  void forget() { error = cudaSuccess; }
};

}  // namespace trireme::worker::cuda
