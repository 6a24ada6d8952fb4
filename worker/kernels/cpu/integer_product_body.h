// Four products of int8 codes at a time, added exactly in int32. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

#if defined(__AVX512VNNI__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace trireme::worker {
namespace {

using VecInt = int32_t __attribute__((vector_size(64)));

#ifdef __AVX512VNNI__

// vpdpbusd wants one operand without sign: a code of the weights is its value + 128.
inline constexpr int32_t kInt8Zero = 128;

TRIREME_INLINE VecInt add_products(VecInt sum, uint32_t a, VecBits b) {
  return reinterpret_cast<VecInt>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                      reinterpret_cast<__m512i>(b),
                                                      _mm512_set1_epi32(static_cast<int>(a))));
}
TRIREME_INLINE VecInt add_int8_products(VecInt sum, uint32_t a, VecBits b) {
  return add_products(sum, a, b);
}

#elif defined(__AVX2__)

// vpmaddubsw saturates at 2^15: the signs move to the activations, whose magnitude is 127 at most.
inline constexpr int32_t kInt8Zero = 0;

struct Halves {
  __m256i low, high;
};

TRIREME_INLINE Halves halves_of(const void* vec) {
  const auto* half = static_cast<const __m256i_u*>(vec);
  return {_mm256_loadu_si256(half), _mm256_loadu_si256(half + 1)};
}
TRIREME_INLINE VecInt whole_of(__m256i low, __m256i high) {
  const Halves halves{low, high};
  return __builtin_bit_cast(VecInt, halves);
}
TRIREME_INLINE __m256i pair_sums(__m256i without_sign, __m256i with_sign) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(without_sign, with_sign), _mm256_set1_epi16(1));
}
// b: 0 to 15.
TRIREME_INLINE VecInt add_products(VecInt sum, uint32_t a, VecBits b) {
  const Halves codes = halves_of(&b);
  const __m256i by = _mm256_set1_epi32(static_cast<int>(a));
  return sum + whole_of(pair_sums(codes.low, by), pair_sums(codes.high, by));
}
TRIREME_INLINE VecInt add_int8_products(VecInt sum, uint32_t a, VecBits b) {
  b ^= 0x80808080U;
  const Halves codes = halves_of(&b);
  const __m256i by = _mm256_set1_epi32(static_cast<int>(a));
  return sum + whole_of(pair_sums(_mm256_abs_epi8(codes.low), _mm256_sign_epi8(by, codes.low)),
                        pair_sums(_mm256_abs_epi8(codes.high), _mm256_sign_epi8(by, codes.high)));
}

#else

inline constexpr int32_t kInt8Zero = 128;

TRIREME_INLINE VecInt add_products(VecInt sum, uint32_t a, VecBits b) {
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 4; ++i) {
    const auto by = static_cast<int8_t>(a >> (8 * i));
    sum += reinterpret_cast<VecInt>((b >> (8 * i)) & 0xffU) * int32_t{by};
  }
  return sum;
}
TRIREME_INLINE VecInt add_int8_products(VecInt sum, uint32_t a, VecBits b) {
  return add_products(sum, a, b);
}

#endif

TRIREME_INLINE Vec from_fp16(const uint16_t* from) {
#ifdef __AVX512F__
  // The form without a mask makes gcc 12 warn of its own header.
  return reinterpret_cast<Vec>(
      _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from))));
#else
  // 2^112 moves the exponent to fp32's bias; it also makes subnormals right.
  const VecBits bits =
      __builtin_convertvector(*reinterpret_cast<const UnalignedHalf*>(from), VecBits);
  const Vec magnitude = reinterpret_cast<Vec>((bits & 0x7fffU) << 13) * 0x1p112F;
  return reinterpret_cast<Vec>(reinterpret_cast<VecBits>(magnitude) | ((bits & 0x8000U) << 16));
#endif
}

// 16 bytes as floats.
TRIREME_INLINE Vec from_bytes(const uint8_t* from) {
  using Bytes = uint8_t __attribute__((vector_size(kLanes), aligned(1), may_alias));
  return __builtin_convertvector(
      __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), VecInt), Vec);
}

}  // namespace
}  // namespace trireme::worker
