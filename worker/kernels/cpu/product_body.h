// How one unit of K is multiplied and added, for fp32 and bf16. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

struct Fp32Product {
  using Unit = float;
  static constexpr uint32_t kUnitColumns = 1;
  static TRIREME_INLINE Vec multiply_add(Vec sum, Unit a, const Unit* b) {
#ifdef __AVX512F__
    return {{_mm512_fmadd_ps(_mm512_set1_ps(a), _mm512_loadu_ps(b), sum.parts[0])}};
#else
    return sum + splat(a) * load(b);
#endif
  }
  static TRIREME_INLINE Unit pack(const float* x, uint32_t) { return x[0]; }
  static TRIREME_INLINE void pack_lanes(const float* x, Unit* out) { store(out, load(x)); }
};

// Two bf16 values along K in one 32-bit unit, the earlier one in the low half.
struct Bf16Product {
  using Unit = uint32_t;
  static constexpr uint32_t kUnitColumns = 2;
  static TRIREME_INLINE Vec multiply_add(Vec sum, Unit a, const Unit* b) {
#ifdef __AVX512BF16__
    return {{_mm512_dpbf16_ps(sum.parts[0],
                              reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a))),
                              reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)))}};
#else
    const VecBits pairs = load_bits(b);
    const float low = __builtin_bit_cast(float, a << 16);
    const float high = __builtin_bit_cast(float, a & 0xffff0000U);
    sum = sum + splat(low) * bits_as<Vec>(pairs << 16);
    return sum + splat(high) * bits_as<Vec>(pairs & 0xffff0000U);
#endif
  }
  static TRIREME_INLINE Unit pack(const float* x, uint32_t count) {
    const uint32_t low = to_bf16(x[0]);
    const uint32_t high = count > 1 ? to_bf16(x[1]) : 0;
    return low | (high << 16);
  }
  static TRIREME_INLINE void pack_lanes(const float* x, Unit* out) {
#ifdef __AVX512BF16__
    // Makes zeros of subnormal numbers, as the product would.
    _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(
                                 _mm512_loadu_ps(x + kLanes), _mm512_loadu_ps(x))));
#else
    store_bf16(reinterpret_cast<uint16_t*>(out), load(x));
    store_bf16(reinterpret_cast<uint16_t*>(out) + kLanes, load(x + kLanes));
#endif
  }
};

}  // namespace
}  // namespace trireme::worker
