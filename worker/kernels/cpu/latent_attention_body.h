// Attention over a latent cache: of each position there is one row that all query heads share. The
// row is the key, its first columns are the value. See vec.h for who may include it and
// kernel_table.h for the form.
//
// The algorithm is that of attention_body.h: spans of positions, each with its own maximum,
// combined in order. A head's score is one sum along the row, in lanes; its output one chain in the
// order of the positions. Up to four heads share each load, which touches no bit of any. Stored
// numbers become fp32 as they are read; queries, weights and sums are fp32.
#pragma once

#include "worker/kernels/cpu/attention_body.h"

namespace trireme::worker {
namespace {

using cpu::kLatentHeadsMax;
using cpu::kLatentKeySizeMax;
using cpu::LatentAttentionItem;
using cpu::LatentToAppend;

TRIREME_INLINE Vec from_stored(const float* from) { return load(from); }
TRIREME_INLINE Vec from_stored(const int8_t* from) { return to_floats(widen(from)); }
TRIREME_INLINE Vec from_stored(const uint16_t* from) { return bits_as<Vec>(widen(from) << 16); }

// Bytes from a block's part to its scales: two a token, of the value's columns and of the others.
TRIREME_INLINE uint64_t latent_scales_offset(uint32_t block_tokens, uint32_t key_size) {
  return static_cast<uint64_t>(block_tokens) * key_size;
}

#ifdef __AVX512F__
template <uint32_t count>
TRIREME_INLINE Vec sum_halves(const Vec& a, const Vec& b) {
  VecInt::Register low;
  VecInt::Register high;
  for (uint32_t i = 0; i < kLanes; ++i) {
    // Groups of `count` lanes, of a and of b in turn.
    const uint32_t group = i / count;
    const uint32_t from = (group % 2) * kLanes + group / 2 * 2 * count + i % count;
    low[i] = static_cast<int32_t>(from);
    high[i] = static_cast<int32_t>(from + count);
  }
  return {{__builtin_shuffle(a.parts[0], b.parts[0], low) +
           __builtin_shuffle(a.parts[0], b.parts[0], high)}};
}
#endif

// The sum of the lanes of each of 16, in no lane order that depends on the others.
TRIREME_INLINE void sum_each(const Vec (&sums)[kLanes], float* out) {
#if defined(__AVX512F__)
  Vec eighths[8];
  for (uint32_t i = 0; i < 8; ++i) eighths[i] = sum_halves<8>(sums[i], sums[i + 8]);
  Vec quarters[4];
  for (uint32_t i = 0; i < 4; ++i) quarters[i] = sum_halves<4>(eighths[i], eighths[i + 4]);
  Vec halves[2];
  for (uint32_t i = 0; i < 2; ++i) halves[i] = sum_halves<2>(quarters[i], quarters[i + 2]);
  store(out, sum_halves<1>(halves[0], halves[1]));
#else
  for (uint32_t i = 0; i < kLanes; ++i) out[i] = sum_lanes(sums[i]);
#endif
}

inline constexpr uint32_t kRowsAtATime = 4;  // Heads, and positions, in registers.
static_assert(kRowsAtATime * kRowsAtATime == kLanes);

// One span of positions.
template <typename Element>
struct LatentSpan {
  static constexpr bool kIsScaled = sizeof(Element) == 1;
  const LatentAttentionItem& item;
  uint32_t count;  // Of positions seen.
  const Element* rows[kAttentionSpanTokens];
  const float* scales[kAttentionSpanTokens];

  LatentSpan(const LatentAttentionItem& what, uint32_t begin) : item(what) {
    const uint32_t left = item.position + 1 - begin;
    count = left < kAttentionSpanTokens ? left : kAttentionSpanTokens;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t position = begin + i;
      const uint32_t slot = position % item.block_tokens;
      const auto block = static_cast<uint64_t>(item.blocks[position / item.block_tokens]);
      const std::byte* kv = item.kv + block * item.block_stride;
      rows[i] = reinterpret_cast<const Element*>(kv) + static_cast<uint64_t>(slot) * item.key_size;
      if constexpr (kIsScaled) {
        scales[i] = reinterpret_cast<const float*>(
                        kv + latent_scales_offset(item.block_tokens, item.key_size)) +
                    2 * slot;
      }
    }
  }
};

// sums[head · 4 + position] += the products of some columns.
template <typename Element>
TRIREME_INLINE void add_products(const float* const (&q)[kRowsAtATime],
                                 const Element* const (&rows)[kRowsAtATime], uint32_t begin,
                                 uint32_t end, Vec (&sums)[kLanes]) {
  for (uint32_t column = begin; column < end; column += kLanes) {
    Vec keys[kRowsAtATime];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kRowsAtATime; ++i) keys[i] = from_stored(rows[i] + column);
#pragma GCC unroll 4
    for (uint32_t head = 0; head < kRowsAtATime; ++head) {
      const Vec query = load(q[head] + column);
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kRowsAtATime; ++i) sums[head * kRowsAtATime + i] += query * keys[i];
    }
  }
}

// Scores of four heads at four positions. Where there are fewer of them the last one stands for the
// others.
template <typename Element>
void score_four(const LatentSpan<Element>& span, const float* q, uint32_t head, uint32_t head_count,
                uint32_t position, float* scores) {
  const LatentAttentionItem& item = span.item;
  const float* queries[kRowsAtATime];
  const Element* rows[kRowsAtATime];
  uint32_t positions[kRowsAtATime];
  for (uint32_t i = 0; i < kRowsAtATime; ++i) {
    queries[i] = q + (head + i < head_count ? head + i : head_count - 1) * kLatentKeySizeMax;
    positions[i] = position + i < span.count ? position + i : span.count - 1;
    rows[i] = span.rows[positions[i]];
  }
  Vec sums[kLanes] = {};
  if constexpr (LatentSpan<Element>::kIsScaled) {
    Vec others[kLanes] = {};
    add_products(queries, rows, 0, item.value_size, sums);
    add_products(queries, rows, item.value_size, item.key_size, others);
    for (uint32_t i = 0; i < kLanes; ++i) {
      const float* scales = span.scales[positions[i % kRowsAtATime]];
      sums[i] = sums[i] * scales[0] + others[i] * scales[1];
    }
  } else {
    add_products(queries, rows, 0, item.key_size, sums);
  }
  float each[kLanes];
  sum_each(sums, each);
  for (uint32_t i = 0; i < kLanes; ++i) {
    const uint32_t at = head + i / kRowsAtATime;
    if (at >= head_count) break;
    scores[at * kAttentionSpanTokens + position + i % kRowsAtATime] = each[i] * item.scale;
  }
}

// Σ weight · value of 64 columns, or 16, for four heads.
template <typename Element, uint32_t part_count>
void weigh_four(const LatentSpan<Element>& span, const float* weights, uint32_t head,
                uint32_t head_count, uint32_t column, float* out) {
  const float* of_head[kRowsAtATime];
  for (uint32_t i = 0; i < kRowsAtATime; ++i) {
    of_head[i] =
        weights + (head + i < head_count ? head + i : head_count - 1) * kAttentionSpanTokens;
  }
  Vec sums[kRowsAtATime][part_count] = {};
  for (uint32_t position = 0; position < span.count; ++position) {
    const Element* row = span.rows[position] + column;
    Vec values[part_count];
#pragma GCC unroll 4
    for (uint32_t part = 0; part < part_count; ++part) {
      values[part] = from_stored(row + part * kLanes);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kRowsAtATime; ++i) {
      const Vec weight = splat(of_head[i][position]);
#pragma GCC unroll 4
      for (uint32_t part = 0; part < part_count; ++part) sums[i][part] += weight * values[part];
    }
  }
  for (uint32_t i = 0; i < kRowsAtATime && head + i < head_count; ++i) {
    for (uint32_t part = 0; part < part_count; ++part) {
      store(out + (head + i) * kAttentionHeadSizeMax + column + part * kLanes, sums[i][part]);
    }
  }
}

// What the spans so far give for the heads of an item.
struct LatentHeads {
  alignas(64) float q[kLatentHeadsMax * kLatentKeySizeMax];
  alignas(64) float sums[kLatentHeadsMax * kAttentionHeadSizeMax];
  HeadState states[kLatentHeadsMax];
};

template <typename Element>
void attend_latent_span(const LatentAttentionItem& item, uint32_t begin, LatentHeads& heads) {
  alignas(64) float scores[kLatentHeadsMax * kAttentionSpanTokens];
  alignas(64) float sums[kLatentHeadsMax * kAttentionHeadSizeMax];
  SpanSum totals[kLatentHeadsMax];
  const LatentSpan<Element> span(item, begin);
  for (uint32_t position = 0; position < span.count; position += kRowsAtATime) {
    for (uint32_t head = 0; head < item.head_count; head += kRowsAtATime) {
      score_four(span, heads.q, head, item.head_count, position, scores);
    }
  }
  for (uint32_t head = 0; head < item.head_count; ++head) {
    float* weights = scores + head * kAttentionSpanTokens;
    totals[head] = exponentiate(weights, 0, span.count - 1);
    if constexpr (LatentSpan<Element>::kIsScaled) {
      for (uint32_t i = 0; i < span.count; ++i) weights[i] *= span.scales[i][0];
    }
  }
  uint32_t column = 0;
  for (; column + 4 * kLanes <= item.value_size; column += 4 * kLanes) {
    for (uint32_t head = 0; head < item.head_count; head += kRowsAtATime) {
      weigh_four<Element, 4>(span, scores, head, item.head_count, column, sums);
    }
  }
  for (; column < item.value_size; column += kLanes) {
    for (uint32_t head = 0; head < item.head_count; head += kRowsAtATime) {
      weigh_four<Element, 1>(span, scores, head, item.head_count, column, sums);
    }
  }
  for (uint32_t head = 0; head < item.head_count; ++head) {
    const uint64_t at = static_cast<uint64_t>(head) * kAttentionHeadSizeMax;
    combine(heads.states[head], heads.sums + at, totals[head], sums + at, item.value_size);
  }
}

template <typename Element>
void attend_latent(const LatentAttentionItem& item) {
  LatentHeads heads;
  const uint32_t rest_size = item.key_size - item.value_size;
  const auto copy = [](const float* from, uint32_t count, float* to) {
    for (uint32_t i = 0; i < count; i += kLanes) store(to + i, load(from + i));
  };
  for (uint32_t head = 0; head < item.head_count; ++head) {
    float* q = heads.q + static_cast<uint64_t>(head) * kLatentKeySizeMax;
    copy(item.q + static_cast<uint64_t>(head) * item.value_size, item.value_size, q);
    copy(item.q_rest + static_cast<uint64_t>(head) * rest_size, rest_size, q + item.value_size);
  }
  for (uint32_t begin = 0; begin <= item.position; begin += kAttentionSpanTokens) {
    attend_latent_span<Element>(item, begin, heads);
  }
  for (uint32_t head = 0; head < item.head_count; ++head) {
    const float* sums = heads.sums + static_cast<uint64_t>(head) * kAttentionHeadSizeMax;
    float* out = item.out + static_cast<uint64_t>(head) * item.value_size;
    const float factor = 1.0F / heads.states[head].total;
    for (uint32_t i = 0; i < item.value_size; i += kLanes) store(out + i, load(sums + i) * factor);
  }
}

template <typename Element>
void append_latent(const LatentToAppend& token) {
  auto* row =
      reinterpret_cast<Element*>(token.kv) + static_cast<uint64_t>(token.slot) * token.key_size;
  const uint32_t rest_size = token.key_size - token.value_size;
  if constexpr (sizeof(Element) == 1) {
    auto* scales = reinterpret_cast<float*>(
                       token.kv + latent_scales_offset(token.block_tokens, token.key_size)) +
                   2 * token.slot;
    const auto put = [](const float* from, uint32_t count, Element* to) {
      const Int8Scale scale = int8_scale(from, count);
      for (uint32_t i = 0; i < count; ++i) to[i] = to_int8(from[i] * scale.inverse);
      return scale.scale;
    };
    scales[0] = put(token.value, token.value_size, row);
    scales[1] = put(token.rest, rest_size, row + token.value_size);
  } else {
    const auto put = [](const float* from, uint32_t count, Element* to) {
      for (uint32_t i = 0; i < count; i += kLanes) put_values(to + i, load(from + i));
    };
    put(token.value, token.value_size, row);
    put(token.rest, rest_size, row + token.value_size);
  }
}

}  // namespace
}  // namespace trireme::worker
