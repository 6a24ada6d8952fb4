#include "worker/kernels/quantize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "common/check.h"
#include "worker/kernels/element.h"

namespace trireme::worker {
namespace {

constexpr float kRoundingMagic = 12582912.0F;  // 1.5 · 2^23: adding it rounds to an integer.

// With its sign.
float largest_of(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) {
    if (std::abs(value) > std::abs(largest)) largest = value;
  }
  return largest;
}

}  // namespace

float largest_magnitude(std::span<const float> values) {
  constexpr uint32_t kInfinity = 0x7f800000U;
  uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffU);
  }
  return largest < kInfinity ? std::bit_cast<float>(largest) : NAN;
}

float quantize_int8(std::span<const float> values, std::span<uint8_t> codes) {
  constexpr float kCodeMax = 127.0F;
  constexpr float kTiny = 1e-30F;
  const float largest = largest_magnitude(values);
  if (!(largest > kTiny)) {
    std::ranges::fill(codes, uint8_t{128});
    return std::isnan(largest) ? NAN : 0.0F;
  }
  const float inverse = kCodeMax / largest;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float whole = (values[i] * inverse + kRoundingMagic) - kRoundingMagic;
    codes[i] = static_cast<uint8_t>(static_cast<int>(whole) + 128);
  }
  return largest / kCodeMax;
}

uint16_t quantize_int4(std::span<const float> values, float unit, Int4Error error_of,
                       std::span<uint8_t> codes) {
  TRIREME_CHECK(values.size() <= kInt4GroupMax, "groups are this large at most");
  constexpr float kFactors[] = {1.0F, 1.06F, 0.94F, 0.88F, 0.82F, 0.76F};
  constexpr uint32_t kLanes = 16;
  if (std::isnan(largest_magnitude(values)) || std::isnan(unit)) {
    std::ranges::fill(codes, uint8_t{8});
    return float16_of(NAN);
  }
  const float exact = largest_of(values) / -8.0F / unit;
  std::array<float, kInt4GroupMax> padded = {};
  std::ranges::copy(values, padded.begin());
  const auto count = static_cast<uint32_t>((values.size() + kLanes - 1) / kLanes * kLanes);
  uint16_t best = 0;
  float least = INFINITY;
  for (const float factor : kFactors) {
    const uint16_t candidate = float16_of(exact * factor);
    const float scale = float_of_float16(candidate) * unit;
    if (scale == 0.0F) continue;
    const float error = error_of(padded.data(), count, scale);
    if (error >= least) continue;
    least = error;
    best = candidate;
  }
  const float scale = float_of_float16(best) * unit;
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float whole = (values[i] * inverse + kRoundingMagic) - kRoundingMagic;
    codes[i] = static_cast<uint8_t>(static_cast<int>(std::clamp(whole, -8.0F, 7.0F)) + 8);
  }
  return best;
}

float scale_unit_for(float largest_scale) {
  constexpr int kExponentMax = 14;  // Of fp16 it is 15.
  if (std::isnan(largest_scale)) return NAN;
  if (!(largest_scale > 0) || !std::isfinite(largest_scale)) return 1.0F;
  int exponent = 0;
  std::frexp(largest_scale, &exponent);
  return std::ldexp(1.0F, std::max(exponent - kExponentMax, -100));
}

}  // namespace trireme::worker
