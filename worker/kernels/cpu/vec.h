// Vec: 16 floats as one value, by the compiler's vector extension. The same source becomes one
// AVX-512 register or four SSE ones, whatever the file that includes it is compiled for.
//
// Only for the files that are compiled once per instruction set (kernels_*.cc and the *_body.h they
// include): everything is in an unnamed namespace, so that code for a newer CPU never gets linked
// into the path of an older one. For the same reason nothing here calls the standard library.
#pragma once

#include <cstdint>

// NOLINTNEXTLINE: an unnamed namespace in a header is the point, see above.
namespace trireme::worker {
namespace {

#define TRIREME_INLINE inline __attribute__((always_inline))

inline constexpr uint32_t kLanes = 16;

using Vec = float __attribute__((vector_size(64)));
using VecBits = uint32_t __attribute__((vector_size(64)));
using UnalignedVec = float __attribute__((vector_size(64), aligned(4), may_alias));
using UnalignedBits = uint32_t __attribute__((vector_size(64), aligned(4), may_alias));
using Half = uint16_t __attribute__((vector_size(32)));
using UnalignedHalf = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));

TRIREME_INLINE Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
TRIREME_INLINE void store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
TRIREME_INLINE VecBits load_bits(const uint32_t* from) {
  return *reinterpret_cast<const UnalignedBits*>(from);
}
TRIREME_INLINE Vec splat(float value) { return Vec{} + value; }

// Lanes 0..count-1; the others are `fill`.
TRIREME_INLINE Vec load_part(const float* from, uint32_t count, float fill) {
  float lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? from[i] : fill;
  return load(lanes);
}
TRIREME_INLINE void store_part(float* to, Vec value, uint32_t count) {
  float lanes[kLanes];
  store(lanes, value);
  for (uint32_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Round to nearest even; NaN stays NaN.
TRIREME_INLINE uint16_t to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
TRIREME_INLINE Half to_bf16(Vec value) {
  const VecBits bits = reinterpret_cast<VecBits>(value);
  const VecBits rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const VecBits quiet = (bits >> 16) | 0x40U;
  return __builtin_convertvector((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded, Half);
}
TRIREME_INLINE void store_bf16(uint16_t* to, Vec value) {
  *reinterpret_cast<UnalignedHalf*>(to) = to_bf16(value);
}

// Always the same tree, whatever the instruction set.
TRIREME_INLINE float sum_lanes(Vec value) {
  float lanes[kLanes];
  store(lanes, value);
  for (uint32_t width = kLanes / 2; width > 0; width /= 2) {
    for (uint32_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
TRIREME_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
TRIREME_INLINE float max_lanes(Vec value) {
  float lanes[kLanes];
  store(lanes, value);
  float best = lanes[0];
  for (uint32_t i = 1; i < kLanes; ++i) best = lanes[i] > best ? lanes[i] : best;
  return best;
}

// e^x within 2 ulp for x <= 88; below -87 it is 0, NaN stays NaN.
TRIREME_INLINE Vec exp(Vec x) {
  constexpr float kRoundingMagic = 12582912.0F;  // 1.5 · 2^23: adding it rounds to an integer.
  const Vec bounded = x > splat(88.0F) ? splat(88.0F) : x;
  const Vec shifted = bounded * 1.44269504F + kRoundingMagic;
  const Vec whole = shifted - kRoundingMagic;
  Vec rest = bounded - whole * 0.693359375F;
  rest = rest - whole * -2.12194440e-4F;
  Vec series = splat(1.9875691500e-4F);
  series = series * rest + 1.3981999507e-3F;
  series = series * rest + 8.3334519073e-3F;
  series = series * rest + 4.1665795894e-2F;
  series = series * rest + 1.6666665459e-1F;
  series = series * rest + 5.0000001201e-1F;
  series = series * rest * rest + rest + 1.0F;
  const VecBits power = reinterpret_cast<VecBits>(shifted) << 23;
  const Vec scaled = reinterpret_cast<Vec>(reinterpret_cast<VecBits>(series) + power);
  return x < splat(-87.0F) ? splat(0.0F) : scaled;
}

}  // namespace
}  // namespace trireme::worker
