// Sums and maxima over the threads of a warp and a block, in an order that depends on the number of
// threads alone. Every thread gets the result. Device code.
#pragma once

#include "worker/kernels/cuda/launch.h"

namespace trireme::worker::cuda {

// A butterfly: lanes 16 apart first, neighbours last. Both sides of each pair add the same two
// numbers, so that all lanes end with the same bits.
__device__ inline float warp_sum(float value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

__device__ inline float warp_max(float value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

__device__ inline uint32_t warp_max(uint32_t value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Of a one-dimensional block of whole warps: each warp's sum, then the warps' in order.
__device__ inline float block_sum(float value) {
  constexpr uint32_t kWarpsMax = 32;
  __shared__ float sums[kWarpsMax];
  const float mine = warp_sum(value);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = mine;
  __syncthreads();
  float sum = sums[0];
  for (uint32_t warp = 1; warp < blockDim.x / kWarp; ++warp) sum += sums[warp];
  // The next sum may write only when all have read.
  __syncthreads();
  return sum;
}

__device__ inline uint32_t block_max(uint32_t value) {
  constexpr uint32_t kWarpsMax = 32;
  __shared__ uint32_t largest_of_warps[kWarpsMax];
  const uint32_t mine = warp_max(value);
  if (threadIdx.x % kWarp == 0) largest_of_warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  uint32_t largest = 0;
  for (uint32_t warp = 0; warp < blockDim.x / kWarp; ++warp) {
    largest = max(largest, largest_of_warps[warp]);
  }
  // The next one may write only when all have read.
  __syncthreads();
  return largest;
}

}  // namespace trireme::worker::cuda
