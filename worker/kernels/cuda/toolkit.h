// CUDA itself, or on a machine without it what stands in for it. The only file of this folder that
// knows which: everything else is the same for both.
#pragma once

#ifdef TRIREME_CUDA_ON_HOST

#include "worker/kernels/cuda/on_host/cuda_on_host.h"
#include "worker/kernels/cuda/on_host/mma_on_host.h"

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#ifdef __CUDACC__

#include "worker/kernels/cuda/mma_sm80.h"

namespace trireme::worker::cuda {

// The shared memory that a launch asked for.
template <typename Value>
__device__ inline Value* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char trireme_dynamic_shared[];
  return reinterpret_cast<Value*>(trireme_dynamic_shared);
}

}  // namespace trireme::worker::cuda

#endif
#endif
