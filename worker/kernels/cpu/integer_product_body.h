// Four products of int8 codes at a time, added exactly in int32. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

#ifdef __AVX512VNNI__

// vpdpbusd wants one operand without sign: a code of the weights is its value + 128.
inline constexpr int32_t kInt8Zero = 128;

TRIREME_INLINE VecInt add_products(const VecInt& sum, uint32_t a, const VecBits& b) {
  const __m512i out = _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum.parts[0]),
                                          reinterpret_cast<__m512i>(b.parts[0]),
                                          _mm512_set1_epi32(static_cast<int>(a)));
  return {{reinterpret_cast<VecInt::Register>(out)}};
}
TRIREME_INLINE VecInt add_int8_products(const VecInt& sum, uint32_t a, const VecBits& b) {
  return add_products(sum, a, b);
}

#elif defined(__AVX2__)

// vpmaddubsw saturates at 2^15: the signs move to the activations, whose magnitude is 127 at most.
inline constexpr int32_t kInt8Zero = 0;

TRIREME_INLINE VecInt::Register pair_sums(__m256i without_sign, __m256i with_sign) {
  const __m256i pairs = _mm256_maddubs_epi16(without_sign, with_sign);
  return reinterpret_cast<VecInt::Register>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// b: 0 to 15.
TRIREME_INLINE VecInt add_products(VecInt sum, uint32_t a, const VecBits& b) {
  const __m256i by = _mm256_set1_epi32(static_cast<int>(a));
#pragma GCC unroll 2
  for (uint32_t i = 0; i < VecInt::kParts; ++i) {
    sum.parts[i] += pair_sums(reinterpret_cast<__m256i>(b.parts[i]), by);
  }
  return sum;
}
TRIREME_INLINE VecInt add_int8_products(VecInt sum, uint32_t a, const VecBits& b) {
  const __m256i by = _mm256_set1_epi32(static_cast<int>(a));
#pragma GCC unroll 2
  for (uint32_t i = 0; i < VecInt::kParts; ++i) {
    const auto codes = reinterpret_cast<__m256i>(b.parts[i] ^ 0x80808080U);
    sum.parts[i] += pair_sums(_mm256_abs_epi8(codes), _mm256_sign_epi8(by, codes));
  }
  return sum;
}

#else

inline constexpr int32_t kInt8Zero = 128;

// Bytes 0 and 2, then 1 and 3, as pairs of 16 bits.
TRIREME_INLINE VecInt add_products(VecInt sum, uint32_t a, const VecBits& b) {
  constexpr uint32_t kEven = 0x00ff00ffU;
  const auto with_sign = [a](uint32_t byte) {
    return static_cast<uint32_t>(static_cast<int32_t>(a << (24 - 8 * byte)) >> 24) & 0xffffU;
  };
  const __m128i even = _mm_set1_epi32(static_cast<int>(with_sign(0) | with_sign(2) << 16));
  const __m128i odd = _mm_set1_epi32(static_cast<int>(with_sign(1) | with_sign(3) << 16));
#pragma GCC unroll 4
  for (uint32_t i = 0; i < VecInt::kParts; ++i) {
    const auto first = reinterpret_cast<__m128i>(b.parts[i] & kEven);
    const auto second = reinterpret_cast<__m128i>((b.parts[i] >> 8) & kEven);
    sum.parts[i] += reinterpret_cast<VecInt::Register>(_mm_madd_epi16(first, even));
    sum.parts[i] += reinterpret_cast<VecInt::Register>(_mm_madd_epi16(second, odd));
  }
  return sum;
}
TRIREME_INLINE VecInt add_int8_products(VecInt sum, uint32_t a, const VecBits& b) {
  return add_products(sum, a, b);
}

#endif

}  // namespace
}  // namespace trireme::worker
