// What mma_sm80.h does, by exchanging the lanes' registers. Included by toolkit.h, behind
// cuda_on_host.h.
#pragma once

#include <bit>

#include "worker/kernels/cuda/mma.h"
#include "worker/kernels/cuda/on_host/cuda_on_host.h"

namespace trireme::worker::cuda {
namespace on_host {

[[nodiscard]] inline float number_in(uint32_t word, uint32_t half, __nv_bfloat16) {
  return __bfloat162float({static_cast<uint16_t>(word >> (16 * half))});
}
[[nodiscard]] inline float number_in(uint32_t word, uint32_t half, __half) {
  return __half2float({static_cast<uint16_t>(word >> (16 * half))});
}

}  // namespace on_host

template <typename Value>
void multiply_add(MmaC& sum, const MmaA& a, const MmaB& b) {
  struct Lane {
    MmaA a;
    MmaB b;
  };
  static thread_local Lane block[on_host::kBlockThreadsMax];
  const uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const uint32_t lane = thread % on_host::kWarpThreads;
  const Lane* const lanes = block + thread - lane;
  block[thread] = {a, b};
  __syncwarp();
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = lane / 4 + 8 * (i / 2);
    const uint32_t column = 2 * (lane % 4) + i % 2;
    for (uint32_t k = 0; k < 16; ++k) {
      const uint32_t of_k = k % 8 / 2;
      const uint32_t a_word = lanes[row % 8 * 4 + of_k].a.words[row / 8 + 2 * (k / 8)];
      const uint32_t b_word = lanes[column * 4 + of_k].b.words[k / 8];
      sum.values[i] +=
          on_host::number_in(a_word, k % 2, Value{}) * on_host::number_in(b_word, k % 2, Value{});
    }
  }
  __syncwarp();
}

}  // namespace trireme::worker::cuda
