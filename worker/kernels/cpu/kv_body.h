// The forms in which K and V are kept (kernel_table.h), and how they are appended. See vec.h for
// who may include it.
//
// Fp32Kv and Bf16Kv are as the products of those elements, V as well: it is the matrix of the
// product with the weights of the positions. Int8Kv keeps each head of each token with a scale of
// its own for K and for V: value = scale · integer, scale = largest / 127. What is written so
// depends on the token alone. Queries stay fp32 beside it, integers become fp32 as they are read.
#pragma once

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/product_body.h"

namespace trireme::worker {
namespace {

using cpu::kKvChunkTokens;
using cpu::KvToAppend;

static_assert(kKvChunkTokens == kLanes);

TRIREME_INLINE uint32_t round_to_lanes(uint32_t count) {
  return (count + kLanes - 1) / kLanes * kLanes;
}

TRIREME_INLINE void put_values(float* to, Vec values) { store(to, values); }
TRIREME_INLINE void put_values(uint16_t* to, Vec values) { store_bf16(to, values); }

// KeyUnit: kUnitColumns elements along what is summed, columns of K, positions of V. Weight: of a
// position, as the product with V takes it.
struct Fp32Kv : Fp32Product {
  using Element = float;
  using KeyUnit = float;
  using Weight = float;
  static constexpr bool kIsScaled = false;
};

struct Bf16Kv : Bf16Product {
  using Element = uint16_t;
  using KeyUnit = uint32_t;
  using Weight = uint16_t;
  static constexpr bool kIsScaled = false;
};

struct Int8Kv {
  using Unit = float;  // Of the query.
  using Element = int8_t;
  using KeyUnit = int8_t;
  using Weight = float;
  static constexpr uint32_t kUnitColumns = 1;
  static constexpr bool kIsScaled = true;
  static TRIREME_INLINE Vec multiply_add(Vec sum, Unit a, const KeyUnit* b) {
    return sum + splat(a) * to_floats(widen(b));
  }
  static TRIREME_INLINE Unit pack(const float* x, uint32_t) { return x[0]; }
};

// Bytes from a head's part of a block to its scales: one per token for K, then one per token for V.
TRIREME_INLINE uint64_t scales_offset(uint32_t block_tokens, uint32_t head_size) {
  return static_cast<uint64_t>(block_tokens) * (head_size + round_to_lanes(head_size));
}

// Columns of V lie kUnitColumns elements apart.
template <typename Kv>
TRIREME_INLINE typename Kv::Element* v_of_token(const KvToAppend& token) {
  constexpr uint32_t unit = Kv::kUnitColumns;
  return reinterpret_cast<typename Kv::Element*>(token.kv) +
         static_cast<uint64_t>(token.block_tokens) * token.head_size +
         static_cast<uint64_t>(token.slot / unit) * unit * round_to_lanes(token.head_size) +
         token.slot % unit;
}

// Columns of K lie kKvChunkTokens units apart.
template <typename Kv>
TRIREME_INLINE typename Kv::KeyUnit* k_of_token(const KvToAppend& token) {
  auto* kv = reinterpret_cast<typename Kv::Element*>(token.kv);
  return reinterpret_cast<typename Kv::KeyUnit*>(
             kv + static_cast<uint64_t>(token.slot / kKvChunkTokens) * kKvChunkTokens *
                      token.head_size) +
         token.slot % kKvChunkTokens;
}

// Behind the head come zeros up to whole lanes.
template <uint32_t step, typename Element>
TRIREME_INLINE void put_value_row(Element* to, const KvToAppend& token) {
  for (uint32_t i = 0; i < round_to_lanes(token.head_size); i += kLanes) {
    const uint32_t left = token.head_size - i;
    const Vec values = left < kLanes ? load_part(token.v + i, left, 0.0F) : load(token.v + i);
    if constexpr (step == 1) {
      put_values(to + i, values);
    } else {
      Element row[kLanes];
      put_values(row, values);
      for (uint32_t lane = 0; lane < kLanes; ++lane) to[(i + lane) * step] = row[lane];
    }
  }
}

template <typename Kv>
void append_kv(const KvToAppend& token) {
  auto* k = k_of_token<Kv>(token);
  for (uint32_t i = 0; i < token.head_size; i += Kv::kUnitColumns) {
    *k = Kv::pack(token.k + i, Kv::kUnitColumns);
    k += kKvChunkTokens;
  }
  auto* v = v_of_token<Kv>(token);
  put_value_row<Kv::kUnitColumns>(v, token);
}

struct Int8Scale {
  float scale;
  float inverse;
};

// NaN when a value is not finite: the row is lost, and must be seen to be.
TRIREME_INLINE Int8Scale int8_scale(const float* x, uint32_t count) {
  float largest = 0.0F;
  float poison = 0.0F;
  for (uint32_t i = 0; i < count; ++i) {
    const float size = x[i] < 0.0F ? -x[i] : x[i];
    largest = size > largest ? size : largest;
    poison += x[i] * 0.0F;
  }
  constexpr float kSmallest = 1e-30F;  // Below, 127 / largest would not be finite.
  if (largest < kSmallest) return {poison, 0.0F};
  return {largest / 127.0F + poison, 127.0F / largest};
}

// To nearest, ties to even.
TRIREME_INLINE int8_t to_int8(float x) {
  return static_cast<int8_t>(__builtin_bit_cast(uint32_t, x + kRoundingMagic) & 0xffU);
}

template <>
void append_kv<Int8Kv>(const KvToAppend& token) {
  const Int8Scale k_scale = int8_scale(token.k, token.head_size);
  const Int8Scale v_scale = int8_scale(token.v, token.head_size);
  int8_t* k = k_of_token<Int8Kv>(token);
  for (uint32_t i = 0; i < token.head_size; ++i) {
    k[i * kKvChunkTokens] = to_int8(token.k[i] * k_scale.inverse);
  }
  int8_t* v = v_of_token<Int8Kv>(token);
  for (uint32_t i = 0; i < token.head_size; ++i) v[i] = to_int8(token.v[i] * v_scale.inverse);
  for (uint32_t i = token.head_size; i < round_to_lanes(token.head_size); ++i) v[i] = 0;
  auto* scales =
      reinterpret_cast<float*>(token.kv + scales_offset(token.block_tokens, token.head_size)) +
      token.slot;
  scales[0] = k_scale.scale;
  scales[token.block_tokens] = v_scale.scale;
}

}  // namespace
}  // namespace trireme::worker
