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

[[nodiscard]] inline int32_t code_in(uint32_t word, uint32_t byte) {
  return static_cast<int8_t>(word >> (8 * byte));
}

// Calls add(i, A's word, B's word) with every pair of words that meet in this lane's value i, along
// K.
template <typename Add>
void exchange_words(const MmaA& a, const MmaB& b, const Add& add) {
  struct Lane {
    MmaA a;
    MmaB b;
  };
  static thread_local Lane block[kBlockThreadsMax];
  const uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const uint32_t lane = thread % kWarpThreads;
  const Lane* const lanes = block + thread - lane;
  block[thread] = {a, b};
  __syncwarp();
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = lane / 4 + 8 * (i / 2);
    const uint32_t column = 2 * (lane % 4) + i % 2;
    for (uint32_t word = 0; word < 8; ++word) {
      add(i, lanes[row % 8 * 4 + word % 4].a.words[row / 8 + 2 * (word / 4)],
          lanes[column * 4 + word % 4].b.words[word / 4]);
    }
  }
  __syncwarp();
}

}  // namespace on_host

template <typename Value>
void multiply_add(MmaC& sum, const MmaA& a, const MmaB& b) {
  on_host::exchange_words(a, b, [&sum](uint32_t i, uint32_t a_word, uint32_t b_word) {
    for (uint32_t half = 0; half < 2; ++half) {
      sum.values[i] +=
          on_host::number_in(a_word, half, Value{}) * on_host::number_in(b_word, half, Value{});
    }
  });
}

inline void multiply_add(MmaCodeSums& sum, const MmaA& a, const MmaB& b) {
  on_host::exchange_words(a, b, [&sum](uint32_t i, uint32_t a_word, uint32_t b_word) {
    for (uint32_t byte = 0; byte < 4; ++byte) {
      sum.values[i] += on_host::code_in(a_word, byte) * on_host::code_in(b_word, byte);
    }
  });
}

}  // namespace trireme::worker::cuda
