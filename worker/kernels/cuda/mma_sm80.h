// The tensor core instructions of sm_80 and later, for nvcc.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "worker/kernels/cuda/mma.h"

namespace trireme::worker::cuda {

// sum += a · b; all lanes of the warp call it. Value: __nv_bfloat16 or __half.
template <typename Value>
__device__ void multiply_add(MmaC& sum, const MmaA& a, const MmaB& b);

template <>
__device__ inline void multiply_add<__nv_bfloat16>(MmaC& sum, const MmaA& a, const MmaB& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum.values[0]), "+f"(sum.values[1]), "+f"(sum.values[2]), "+f"(sum.values[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]),
        "r"(b.words[1]));
}

template <>
__device__ inline void multiply_add<__half>(MmaC& sum, const MmaA& a, const MmaB& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum.values[0]), "+f"(sum.values[1]), "+f"(sum.values[2]), "+f"(sum.values[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]),
        "r"(b.words[1]));
}

// Of int8 codes.
__device__ inline void multiply_add(MmaCodeSums& sum, const MmaA& a, const MmaB& b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum.values[0]), "+r"(sum.values[1]), "+r"(sum.values[2]), "+r"(sum.values[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]),
        "r"(b.words[1]));
}

}  // namespace trireme::worker::cuda
