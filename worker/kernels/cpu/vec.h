// Vec: 16 floats as one value, in one AVX-512 register, two of AVX2 or four of SSE2, whatever the
// file that includes it is compiled for. VecBits and VecInt are the same lanes as whole numbers.
//
// Only for the files that are compiled once per instruction set (kernels_*.cc and the *_body.h they
// include): everything is in an unnamed namespace, so that code for a newer CPU never gets linked
// into the path of an older one. For the same reason nothing here calls the standard library.
#pragma once

#include <immintrin.h>

#include <cstdint>

// NOLINTNEXTLINE: an unnamed namespace in a header is the point, see above.
namespace trireme::worker {
namespace {

#define TRIREME_INLINE inline __attribute__((always_inline))

inline constexpr uint32_t kLanes = 16;

#if defined(__AVX512F__)
inline constexpr uint32_t kRegisterBytes = 64;
inline constexpr uint32_t kRegisterCount = 32;
#elif defined(__AVX2__)
inline constexpr uint32_t kRegisterBytes = 32;
inline constexpr uint32_t kRegisterCount = 16;
#else
inline constexpr uint32_t kRegisterBytes = 16;
inline constexpr uint32_t kRegisterCount = 16;
#endif

// The registers are told apart here, not left to the compiler: gcc 12 keeps a vector that is wider
// than a register in memory, and compares it lane by lane.
template <typename Element>
struct Lanes {
  // NOLINTNEXTLINE: gcc 12 ignores the attribute in an alias of a template's parameter.
  typedef Element Register __attribute__((vector_size(kRegisterBytes)));
  typedef Element UnalignedRegister  // NOLINT
      __attribute__((vector_size(kRegisterBytes), aligned(4), may_alias));
  static constexpr uint32_t kParts = kLanes * sizeof(Element) / kRegisterBytes;

  [[nodiscard]] TRIREME_INLINE Element operator[](uint32_t lane) const {
    constexpr uint32_t kPerPart = kLanes / kParts;
    return parts[lane / kPerPart][lane % kPerPart];
  }

#define TRIREME_LANES_OPERATOR(op)                                               \
  friend TRIREME_INLINE Lanes operator op(Lanes a, const Lanes& b) {             \
    for (uint32_t i = 0; i < kParts; ++i) a.parts[i] = a.parts[i] op b.parts[i]; \
    return a;                                                                    \
  }                                                                              \
  friend TRIREME_INLINE Lanes operator op(Lanes a, Element b) {                  \
    for (Register & part : a.parts) part = part op b;                            \
    return a;                                                                    \
  }                                                                              \
  friend TRIREME_INLINE Lanes operator op(Element a, Lanes b) {                  \
    for (Register & part : b.parts) part = a op part;                            \
    return b;                                                                    \
  }                                                                              \
  TRIREME_INLINE Lanes& operator op##=(const Lanes& b) { return *this = *this op b; }
  TRIREME_LANES_OPERATOR(+)
  TRIREME_LANES_OPERATOR(-)
  TRIREME_LANES_OPERATOR(*)
  TRIREME_LANES_OPERATOR(/)
  TRIREME_LANES_OPERATOR(&)
  TRIREME_LANES_OPERATOR(|)
  TRIREME_LANES_OPERATOR(^)
#undef TRIREME_LANES_OPERATOR

  friend TRIREME_INLINE Lanes operator-(Lanes a) {
#pragma GCC unroll 4
    for (Register& part : a.parts) part = -part;
    return a;
  }
  friend TRIREME_INLINE Lanes operator<<(Lanes a, int count) {
#pragma GCC unroll 4
    for (Register& part : a.parts) part = part << count;
    return a;
  }
  friend TRIREME_INLINE Lanes operator>>(Lanes a, int count) {
#pragma GCC unroll 4
    for (Register& part : a.parts) part = part >> count;
    return a;
  }

  // Of a comparison: all bits of a lane or none.
  using Mask = Lanes<int32_t>;
  friend TRIREME_INLINE Mask operator>(const Lanes& a, const Lanes& b) {
    Mask out;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kParts; ++i) out.parts[i] = a.parts[i] > b.parts[i];
    return out;
  }
  friend TRIREME_INLINE Mask operator>=(const Lanes& a, const Lanes& b) {
    Mask out;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kParts; ++i) out.parts[i] = a.parts[i] >= b.parts[i];
    return out;
  }
  friend TRIREME_INLINE Mask is_nan(const Lanes& a) {
    Mask out;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kParts; ++i) out.parts[i] = a.parts[i] != a.parts[i];
    return out;
  }
  // Lane by lane a where the mask is set, b elsewhere.
  friend TRIREME_INLINE Lanes select(const Mask& mask, Lanes a, const Lanes& b) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kParts; ++i) a.parts[i] = mask.parts[i] ? a.parts[i] : b.parts[i];
    return a;
  }

  Register parts[kParts];
};

using Vec = Lanes<float>;
using VecBits = Lanes<uint32_t>;
using VecInt = Lanes<int32_t>;

// The same bits as lanes of another type.
template <typename To, typename From>
TRIREME_INLINE To bits_as(const From& from) {
  To out;
#pragma GCC unroll 4
  for (uint32_t i = 0; i < To::kParts; ++i) {
    out.parts[i] = reinterpret_cast<typename To::Register>(from.parts[i]);
  }
  return out;
}

template <typename Element>
TRIREME_INLINE Lanes<Element> load_lanes(const Element* from) {
  using To = Lanes<Element>;
  To out;
#pragma GCC unroll 4
  for (uint32_t i = 0; i < To::kParts; ++i) {
    out.parts[i] = reinterpret_cast<const typename To::UnalignedRegister*>(from)[i];
  }
  return out;
}
template <typename Element>
TRIREME_INLINE void store_lanes(Element* to, const Lanes<Element>& value) {
#pragma GCC unroll 4
  for (uint32_t i = 0; i < Lanes<Element>::kParts; ++i) {
    reinterpret_cast<typename Lanes<Element>::UnalignedRegister*>(to)[i] = value.parts[i];
  }
}
TRIREME_INLINE Vec load(const float* from) { return load_lanes(from); }
TRIREME_INLINE VecBits load_bits(const uint32_t* from) { return load_lanes(from); }
TRIREME_INLINE void store(float* to, const Vec& value) { store_lanes(to, value); }
TRIREME_INLINE void store_bits(uint32_t* to, const VecBits& value) { store_lanes(to, value); }

TRIREME_INLINE Vec splat(float value) {
  Vec out;
#pragma GCC unroll 4
  for (Vec::Register& part : out.parts) part = value - Vec::Register{};
  return out;
}

// Lanes 0..count-1; the others are `fill`.
TRIREME_INLINE Vec load_part(const float* from, uint32_t count, float fill) {
  float lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? from[i] : fill;
  return load(lanes);
}
TRIREME_INLINE void store_part(float* to, const Vec& value, uint32_t count) {
  float lanes[kLanes];
  store(lanes, value);
  for (uint32_t i = 0; i < count; ++i) to[i] = lanes[i];
}

TRIREME_INLINE Vec to_floats(const VecInt& from) {
  Vec out;
#pragma GCC unroll 4
  for (uint32_t i = 0; i < Vec::kParts; ++i) {
    out.parts[i] = __builtin_convertvector(from.parts[i], Vec::Register);
  }
  return out;
}

// Numbers of fewer bits from and to memory, at any address.
#if defined(__AVX512F__)
// The forms without a mask make gcc 12 warn of what its own header leaves uninitialised.
inline constexpr __mmask16 kAllLanes = 0xffff;
TRIREME_INLINE VecInt widen(const int8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
  return {{reinterpret_cast<VecInt::Register>(_mm512_maskz_cvtepi8_epi32(kAllLanes, bytes))}};
}
TRIREME_INLINE VecInt widen(const uint8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
  return {{reinterpret_cast<VecInt::Register>(_mm512_maskz_cvtepu8_epi32(kAllLanes, bytes))}};
}
TRIREME_INLINE VecBits widen(const uint16_t* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from));
  return {{reinterpret_cast<VecBits::Register>(_mm512_maskz_cvtepu16_epi32(kAllLanes, halves))}};
}
TRIREME_INLINE Vec from_fp16(const uint16_t* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from));
  return {{reinterpret_cast<Vec::Register>(_mm512_maskz_cvtph_ps(kAllLanes, halves))}};
}
// Of values below 2^16.
TRIREME_INLINE void store_halves(uint16_t* to, const VecBits& value) {
  _mm256_storeu_si256(
      reinterpret_cast<__m256i_u*>(to),
      _mm512_maskz_cvtepi32_epi16(kAllLanes, reinterpret_cast<__m512i>(value.parts[0])));
}
// Of values from -128 to 127.
TRIREME_INLINE void store_bytes(void* to, const VecInt& value) {
  _mm_storeu_si128(
      static_cast<__m128i_u*>(to),
      _mm512_maskz_cvtepi32_epi8(kAllLanes, reinterpret_cast<__m512i>(value.parts[0])));
}
#elif defined(__AVX2__)
TRIREME_INLINE VecInt whole_of(__m256i low, __m256i high) {
  return {{reinterpret_cast<VecInt::Register>(low), reinterpret_cast<VecInt::Register>(high)}};
}
TRIREME_INLINE VecInt widen(const int8_t* from) {
  return whole_of(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i_u*>(from))),
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i_u*>(from + 8))));
}
TRIREME_INLINE VecInt widen(const uint8_t* from) {
  return whole_of(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i_u*>(from))),
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i_u*>(from + 8))));
}
TRIREME_INLINE VecBits widen(const uint16_t* from) {
  return bits_as<VecBits>(whole_of(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from))),
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from + 8)))));
}
// The packing instructions work within 16 bytes: quarters come out as 0 2 1 3.
TRIREME_INLINE void store_halves(uint16_t* to, const VecBits& value) {
  const __m256i packed = _mm256_packus_epi32(reinterpret_cast<__m256i>(value.parts[0]),
                                             reinterpret_cast<__m256i>(value.parts[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to), _mm256_permute4x64_epi64(packed, 0xd8));
}
TRIREME_INLINE void store_bytes(void* to, const VecInt& value) {
  const __m256i packed = _mm256_packs_epi32(reinterpret_cast<__m256i>(value.parts[0]),
                                            reinterpret_cast<__m256i>(value.parts[1]));
  const __m256i halves = _mm256_permute4x64_epi64(packed, 0xd8);
  _mm_storeu_si128(
      static_cast<__m128i_u*>(to),
      _mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
}
#else
TRIREME_INLINE VecInt::Register lanes_of(__m128i value) {
  return reinterpret_cast<VecInt::Register>(value);
}
// Each byte twice, then twice again: the upper one of four is shifted down.
TRIREME_INLINE VecInt four_times(const void* from) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i_u*>(from));
  const __m128i low = _mm_unpacklo_epi8(bytes, bytes);
  const __m128i high = _mm_unpackhi_epi8(bytes, bytes);
  return {{lanes_of(_mm_unpacklo_epi16(low, low)), lanes_of(_mm_unpackhi_epi16(low, low)),
           lanes_of(_mm_unpacklo_epi16(high, high)), lanes_of(_mm_unpackhi_epi16(high, high))}};
}
TRIREME_INLINE VecInt widen(const int8_t* from) { return four_times(from) >> 24; }
TRIREME_INLINE VecInt widen(const uint8_t* from) {
  return bits_as<VecInt>(bits_as<VecBits>(four_times(from)) >> 24);
}
TRIREME_INLINE VecBits widen(const uint16_t* from) {
  const __m128i zero = _mm_setzero_si128();
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from + 8));
  const VecInt out = {
      {lanes_of(_mm_unpacklo_epi16(first, zero)), lanes_of(_mm_unpackhi_epi16(first, zero)),
       lanes_of(_mm_unpacklo_epi16(second, zero)), lanes_of(_mm_unpackhi_epi16(second, zero))}};
  return bits_as<VecBits>(out);
}
TRIREME_INLINE __m128i packed_halves(const VecInt& value, uint32_t part) {
  return _mm_packs_epi32(reinterpret_cast<__m128i>(value.parts[part]),
                         reinterpret_cast<__m128i>(value.parts[part + 1]));
}
TRIREME_INLINE void store_halves(uint16_t* to, const VecBits& value) {
  // SSE2 packs with sign only.
  const VecInt with_sign = bits_as<VecInt>(value << 16) >> 16;
  _mm_storeu_si128(reinterpret_cast<__m128i_u*>(to), packed_halves(with_sign, 0));
  _mm_storeu_si128(reinterpret_cast<__m128i_u*>(to + 8), packed_halves(with_sign, 2));
}
TRIREME_INLINE void store_bytes(void* to, const VecInt& value) {
  _mm_storeu_si128(static_cast<__m128i_u*>(to),
                   _mm_packs_epi16(packed_halves(value, 0), packed_halves(value, 2)));
}
#endif

#ifndef __AVX512F__
TRIREME_INLINE Vec from_fp16(const uint16_t* from) {
  // 2^112 moves the exponent to fp32's bias; it also makes subnormals right.
  const VecBits bits = widen(from);
  const Vec magnitude = bits_as<Vec>((bits & 0x7fffU) << 13) * 0x1p112F;
  return bits_as<Vec>(bits_as<VecBits>(magnitude) | ((bits & 0x8000U) << 16));
}
#endif

// Whether any lane is set.
TRIREME_INLINE bool is_any(const Vec::Mask& mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask.parts[0]),
                                reinterpret_cast<__m512i>(mask.parts[0])) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask.parts[0] | mask.parts[1])) != 0;
#else
  return _mm_movemask_ps(reinterpret_cast<__m128>((mask.parts[0] | mask.parts[1]) |
                                                  (mask.parts[2] | mask.parts[3]))) != 0;
#endif
}

// Round to nearest even; NaN stays NaN.
TRIREME_INLINE uint16_t to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
TRIREME_INLINE void store_bf16(uint16_t* to, const Vec& value) {
#ifdef __AVX512BF16__
  // Makes zeros of subnormal numbers, as the product would.
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value.parts[0])));
#else
  const VecBits bits = bits_as<VecBits>(value);
  const VecBits rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  store_halves(to, select(is_nan(value), (bits >> 16) | 0x40U, rounded));
#endif
}

// Always the same tree, whatever the instruction set.
TRIREME_INLINE float sum_lanes(const Vec& value) {
  float lanes[kLanes];
  store(lanes, value);
  for (uint32_t width = kLanes / 2; width > 0; width /= 2) {
    for (uint32_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
TRIREME_INLINE Vec max(const Vec& a, const Vec& b) { return select(a > b, a, b); }
TRIREME_INLINE Vec min(const Vec& a, const Vec& b) { return select(b > a, a, b); }
TRIREME_INLINE float max_lanes(const Vec& value) {
  float lanes[kLanes];
  store(lanes, value);
  float best = lanes[0];
  for (uint32_t i = 1; i < kLanes; ++i) best = lanes[i] > best ? lanes[i] : best;
  return best;
}

// 1.5 · 2^23: adding it rounds a float below 2^22 to a whole number, which then is in the low bits.
inline constexpr float kRoundingMagic = 12582912.0F;

// e^x within 2 ulp for x <= 88; below -87 it is 0, NaN stays NaN.
TRIREME_INLINE Vec exp(const Vec& x) {
  const Vec most = splat(88.0F);
  const Vec bounded = select(x > most, most, x);
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
  const VecBits power = bits_as<VecBits>(shifted) << 23;
  const Vec scaled = bits_as<Vec>(bits_as<VecBits>(series) + power);
  return select(splat(-87.0F) > x, splat(0.0F), scaled);
}

}  // namespace
}  // namespace trireme::worker
