// 16 by 16 lanes turned round, on AVX-512. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

// Lane l of the first becomes lane `row` of the l-th, as in a matrix: pairs of vectors swap parts
// of 1, 2, 4 and 8 lanes.
TRIREME_INLINE void transpose(VecBits (&rows)[kLanes]) {
  using Register = VecBits::Register;
  Register lane;
  for (uint32_t i = 0; i < kLanes; ++i) lane[i] = i;
#pragma GCC unroll 4
  for (uint32_t width = 1; width < kLanes; width *= 2) {
    const Register is_right = lane & width;
    const Register left = is_right == width ? lane - width + kLanes : lane;
    const Register right = is_right == width ? lane + kLanes : lane + width;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kLanes; ++i) {
      if ((i & width) != 0) continue;
      const Register upper = rows[i].parts[0];
      const Register lower = rows[i + width].parts[0];
      rows[i].parts[0] = __builtin_shuffle(upper, lower, left);
      rows[i + width].parts[0] = __builtin_shuffle(upper, lower, right);
    }
  }
}

}  // namespace
}  // namespace trireme::worker
