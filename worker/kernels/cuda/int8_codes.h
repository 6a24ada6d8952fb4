// Rows of numbers as int8 codes: value = code · scale, the largest magnitude of the row being 127.
// A row that holds a NaN or an infinity has the scale NaN. Device code.
#pragma once

#include <cmath>

#include "worker/kernels/cuda/launch.h"

namespace trireme::worker::cuda {

// Infinity and NaN are larger than all numbers.
__device__ inline uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffU;
}

class Int8Codes {
 public:
  // largest: of the magnitude_bits of a row.
  __device__ explicit Int8Codes(uint32_t largest) {
    constexpr uint32_t kInfinity = 0x7f800000U;
    constexpr float kCodeMax = 127;
    constexpr float kTiny = 1e-30F;  // Less counts as zero: its inverse would be infinite.
    const float magnitude = __uint_as_float(largest);
    if (largest >= kInfinity) {
      scale_ = NAN;
    } else if (magnitude > kTiny) {
      inverse_ = kCodeMax / magnitude;
      scale_ = magnitude / kCodeMax;
    }
  }
  [[nodiscard]] __device__ float scale() const { return scale_; }
  [[nodiscard]] __device__ int32_t code(float value) const {
    return inverse_ == 0 ? 0 : __float2int_rn(value * inverse_);
  }

 private:
  float inverse_ = 0;  // 0: all codes are.
  float scale_ = 0;
};

}  // namespace trireme::worker::cuda
