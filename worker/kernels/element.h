// Reading checkpoint elements as fp32. Host code, for loading and for the reference kernels.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "worker/device.h"

namespace trireme::worker {

// Round to nearest even; NaN stays NaN.
[[nodiscard]] inline uint16_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

[[nodiscard]] inline float float_of_bfloat16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

[[nodiscard]] inline float rounded_to_bfloat16(float value) {
  return float_of_bfloat16(bfloat16_of(value));
}

[[nodiscard]] inline float float_of_float16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t magnitude = half & 0x7fffU;
  if (magnitude >= 0x7c00U) {
    return std::bit_cast<float>(sign | 0x7f800000U | ((magnitude & 0x3ffU) << 13));
  }
  // 2^112 moves the exponent to fp32's bias; it also makes subnormals right.
  const float shifted = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(shifted) | sign);
}

// Round to nearest even, too large becomes infinity; NaN stays NaN.
[[nodiscard]] inline uint16_t float16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U);
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);
  if (magnitude < 0x38800000U) {
    // Adding 0.5 leaves a subnormal's bits in the low end of the mantissa, rounded.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

// Element `index` from `data`, which need not be aligned.
[[nodiscard]] inline float read_element(const void* data, uint64_t index, Element element) {
  const auto* bytes = static_cast<const std::byte*>(data);
  if (element == Element::kFloat32) {
    float value = 0.0F;
    std::memcpy(&value, bytes + index * sizeof(value), sizeof(value));
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, bytes + index * sizeof(half), sizeof(half));
  return element == Element::kBfloat16 ? float_of_bfloat16(half) : float_of_float16(half);
}

}  // namespace trireme::worker
