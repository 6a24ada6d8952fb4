// Paged attention of one token over its row's KV blocks. See vec.h for who may include it and
// kernel_table.h for the KV form.
//
// Positions are taken in fixed spans. Within a span: all scores, their maximum, exponentials, then
// the weighted sum of V, each output element one chain in the order of the positions. Spans are
// combined in order. Which positions a token sees depends on its own position alone, so its bits do
// not depend on how the prompt was cut or on who else is in the batch.
#pragma once

#include "worker/kernels/cpu/activation_body.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/product_body.h"

namespace trireme::worker {
namespace {

using cpu::AttentionItem;
using cpu::kAttentionHeadSizeMax;
using cpu::kAttentionSpanTokens;
using cpu::kKvChunkTokens;
using cpu::KvToAppend;

static_assert(kKvChunkTokens == kLanes);
inline constexpr uint32_t kSpanChunks = kAttentionSpanTokens / kKvChunkTokens;
inline constexpr uint32_t kHeadsMax = 4;  // Query heads that share each load of K and V.
inline constexpr float kMinusInfinity = -__builtin_inff();

TRIREME_INLINE uint32_t round_to_lanes(uint32_t count) {
  return (count + kLanes - 1) / kLanes * kLanes;
}

TRIREME_INLINE Vec load_values(const float* from) { return load(from); }
TRIREME_INLINE Vec load_values(const uint16_t* from) { return from_bf16(from); }
TRIREME_INLINE void put_values(float* to, Vec values) { store(to, values); }
TRIREME_INLINE void put_values(uint16_t* to, Vec values) { store_bf16(to, values); }

template <typename Product>
struct KvElement;
template <>
struct KvElement<Fp32Product> {
  using Type = float;
};
template <>
struct KvElement<Bf16Product> {
  using Type = uint16_t;
};

template <typename Product>
void append_kv(const KvToAppend& token) {
  using Element = typename KvElement<Product>::Type;
  using Unit = typename Product::Unit;
  auto* kv = reinterpret_cast<Element*>(token.kv);
  auto* k = reinterpret_cast<Unit*>(kv + static_cast<uint64_t>(token.slot / kKvChunkTokens) *
                                             kKvChunkTokens * token.head_size) +
            token.slot % kKvChunkTokens;
  for (uint32_t i = 0; i < token.head_size; i += Product::kUnitColumns) {
    *k = Product::pack(token.k + i, Product::kUnitColumns);
    k += kKvChunkTokens;
  }
  const uint32_t v_stride = round_to_lanes(token.head_size);
  Element* v = kv + static_cast<uint64_t>(token.block_tokens) * token.head_size +
               static_cast<uint64_t>(token.slot) * v_stride;
  uint32_t i = 0;
  for (; i + kLanes <= token.head_size; i += kLanes) put_values(v + i, load(token.v + i));
  if (i < token.head_size) put_values(v + i, load_part(token.v + i, token.head_size - i, 0.0F));
}

// One span of one token as its heads see it.
template <typename Product>
struct Span {
  using Element = typename KvElement<Product>::Type;
  const AttentionItem& item;
  uint32_t begin;  // Position of the span's first lane: a multiple of the span.
  uint32_t first;  // First and last position seen, within [begin, begin + span).
  uint32_t last;

  // K of a chunk of 16 positions, counted from `begin`.
  [[nodiscard]] TRIREME_INLINE const Element* k(uint32_t chunk) const {
    const uint32_t position = begin + chunk * kKvChunkTokens;
    return block(position) + static_cast<uint64_t>(position % item.block_tokens) * item.head_size;
  }
  // V of the same positions, rows of round_to_lanes(head_size).
  [[nodiscard]] TRIREME_INLINE const Element* v(uint32_t chunk) const {
    const uint32_t position = begin + chunk * kKvChunkTokens;
    return block(position) + static_cast<uint64_t>(item.block_tokens) * item.head_size +
           static_cast<uint64_t>(position % item.block_tokens) * round_to_lanes(item.head_size);
  }

 private:
  [[nodiscard]] TRIREME_INLINE const Element* block(uint32_t position) const {
    const auto index = static_cast<uint64_t>(item.blocks[position / item.block_tokens]);
    return reinterpret_cast<const Element*>(item.kv + index * item.block_stride);
  }
};

// Scores of head_count heads at chunk_count chunks, every score one chain along the head.
template <typename Product, uint32_t head_count, uint32_t chunk_count>
void score_chunks(const Span<Product>& span, const typename Product::Unit* q, uint32_t chunk,
                  float* scores) {
  using Unit = typename Product::Unit;
  const uint32_t unit_count = span.item.head_size / Product::kUnitColumns;
  const Unit* k[chunk_count];
  for (uint32_t c = 0; c < chunk_count; ++c) {
    k[c] = reinterpret_cast<const Unit*>(span.k(chunk + c));
  }
  Vec sums[head_count][chunk_count] = {};
  for (uint32_t unit = 0; unit < unit_count; ++unit) {
#pragma GCC unroll 4
    for (uint32_t c = 0; c < chunk_count; ++c) {
#pragma GCC unroll 4
      for (uint32_t head = 0; head < head_count; ++head) {
        sums[head][c] = Product::multiply_add(sums[head][c], q[head * unit_count + unit],
                                              k[c] + unit * kKvChunkTokens);
      }
    }
  }
  for (uint32_t head = 0; head < head_count; ++head) {
    for (uint32_t c = 0; c < chunk_count; ++c) {
      store(scores + head * kAttentionSpanTokens + (chunk + c) * kKvChunkTokens,
            sums[head][c] * span.item.scale);
    }
  }
}

template <typename Product, uint32_t head_count>
void score_span(const Span<Product>& span, const typename Product::Unit* q, float* scores) {
  uint32_t chunk = (span.first - span.begin) / kKvChunkTokens;
  const uint32_t chunk_end = (span.last - span.begin) / kKvChunkTokens + 1;
  for (; chunk + 4 <= chunk_end; chunk += 4) {
    score_chunks<Product, head_count, 4>(span, q, chunk, scores);
  }
  for (; chunk < chunk_end; ++chunk) score_chunks<Product, head_count, 1>(span, q, chunk, scores);
}

struct SpanSum {
  float maximum;
  float total;
};

// Scores become exp(score - maximum); what the token does not see becomes 0.
TRIREME_INLINE SpanSum exponentiate(float* scores, uint32_t first, uint32_t last) {
  const uint32_t lane_begin = first / kLanes * kLanes;
  for (uint32_t i = lane_begin; i < first; ++i) scores[i] = kMinusInfinity;
  for (uint32_t i = last + 1; i % kLanes != 0; ++i) scores[i] = kMinusInfinity;
  Vec best = splat(kMinusInfinity);
  for (uint32_t i = lane_begin; i <= last; i += kLanes) best = max(load(scores + i), best);
  const float maximum = max_lanes(best);
  Vec total = {};
  for (uint32_t i = lane_begin; i <= last; i += kLanes) {
    const Vec weight = exp(load(scores + i) - maximum);
    store(scores + i, weight);
    total += weight;
  }
  return {maximum, sum_lanes(total)};
}

template <typename Product, uint32_t head_count, uint32_t part_count>
void weigh_columns(const Span<Product>& span, const float* scores, uint32_t column, float* sums) {
  const uint32_t stride = round_to_lanes(span.item.head_size);
  const uint32_t first = span.first - span.begin;
  const uint32_t end = span.last - span.begin + 1;
  Vec parts[head_count][part_count] = {};
  for (uint32_t lane = first / kKvChunkTokens * kKvChunkTokens; lane < end;
       lane += kKvChunkTokens) {
    const auto* v = span.v(lane / kKvChunkTokens) + column;
    const uint32_t from = first > lane ? first - lane : 0;
    const uint32_t to = end - lane < kKvChunkTokens ? end - lane : kKvChunkTokens;
    for (uint32_t i = from; i < to; ++i) {
#pragma GCC unroll 4
      for (uint32_t part = 0; part < part_count; ++part) {
        const Vec values = load_values(v + i * stride + part * kLanes);
#pragma GCC unroll 4
        for (uint32_t head = 0; head < head_count; ++head) {
          parts[head][part] += scores[head * kAttentionSpanTokens + lane + i] * values;
        }
      }
    }
  }
  for (uint32_t head = 0; head < head_count; ++head) {
    for (uint32_t part = 0; part < part_count; ++part) {
      store(sums + head * kAttentionHeadSizeMax + column + part * kLanes, parts[head][part]);
    }
  }
}

template <typename Product, uint32_t head_count>
void weigh_values(const Span<Product>& span, const float* scores, float* sums) {
  const uint32_t columns = round_to_lanes(span.item.head_size);
  uint32_t column = 0;
  for (; column + 4 * kLanes <= columns; column += 4 * kLanes) {
    weigh_columns<Product, head_count, 4>(span, scores, column, sums);
  }
  for (; column + 2 * kLanes <= columns; column += 2 * kLanes) {
    weigh_columns<Product, head_count, 2>(span, scores, column, sums);
  }
  for (; column < columns; column += kLanes) {
    weigh_columns<Product, head_count, 1>(span, scores, column, sums);
  }
}

// What the spans so far give for one head: sums = Σ exp(score - maximum) · V.
struct HeadState {
  float maximum = kMinusInfinity;
  float total = 0.0F;
  bool is_empty = true;
};

TRIREME_INLINE float exp_scalar(float x) { return exp(splat(x))[0]; }

TRIREME_INLINE void combine(HeadState& state, float* sums, SpanSum span, const float* span_sums,
                            uint32_t columns) {
  if (state.is_empty) {
    state = {span.maximum, span.total, false};
    for (uint32_t i = 0; i < columns; i += kLanes) store(sums + i, load(span_sums + i));
    return;
  }
  const float maximum = span.maximum > state.maximum ? span.maximum : state.maximum;
  const float old_factor = exp_scalar(state.maximum - maximum);
  const float new_factor = exp_scalar(span.maximum - maximum);
  state.total = state.total * old_factor + span.total * new_factor;
  state.maximum = maximum;
  for (uint32_t i = 0; i < columns; i += kLanes) {
    store(sums + i, load(sums + i) * old_factor + load(span_sums + i) * new_factor);
  }
}

template <typename Product, uint32_t head_count>
void attend_heads(const AttentionItem& item, uint32_t head_begin) {
  alignas(64) typename Product::Unit q[kHeadsMax * kAttentionHeadSizeMax];
  alignas(64) float scores[head_count * kAttentionSpanTokens];
  alignas(64) float sums[head_count * kAttentionHeadSizeMax];
  alignas(64) float span_sums[head_count * kAttentionHeadSizeMax];
  HeadState states[head_count];
  const uint32_t size = item.head_size;
  const uint32_t columns = round_to_lanes(size);
  const uint32_t unit_count = size / Product::kUnitColumns;
  const float* from = item.q + static_cast<uint64_t>(head_begin) * size;
  for (uint32_t i = 0; i < head_count * unit_count; ++i) {
    q[i] = Product::pack(from + i * Product::kUnitColumns, Product::kUnitColumns);
  }
  uint32_t begin = item.first / kAttentionSpanTokens * kAttentionSpanTokens;
  for (; begin <= item.position; begin += kAttentionSpanTokens) {
    const uint32_t end = begin + kAttentionSpanTokens - 1;
    const Span<Product> span{item, begin, item.first > begin ? item.first : begin,
                             item.position < end ? item.position : end};
    score_span<Product, head_count>(span, q, scores);
    SpanSum totals[head_count];
    for (uint32_t head = 0; head < head_count; ++head) {
      float* head_scores = scores + head * kAttentionSpanTokens;
      if (item.soft_cap > 0.0F) soft_cap(head_scores, item.soft_cap, span.last - begin + 1);
      totals[head] = exponentiate(head_scores, span.first - begin, span.last - begin);
    }
    weigh_values<Product, head_count>(span, scores, span_sums);
    for (uint32_t head = 0; head < head_count; ++head) {
      combine(states[head], sums + head * kAttentionHeadSizeMax, totals[head],
              span_sums + head * kAttentionHeadSizeMax, columns);
    }
  }
  for (uint32_t head = 0; head < head_count; ++head) {
    const float factor = 1.0F / states[head].total;
    const float* sum = sums + head * kAttentionHeadSizeMax;
    float* to = item.out + static_cast<uint64_t>(head_begin + head) * size;
    uint32_t i = 0;
    for (; i + kLanes <= size; i += kLanes) store(to + i, load(sum + i) * factor);
    if (i < size) store_part(to + i, load(sum + i) * factor, size - i);
  }
}

template <typename Product>
void attention(const AttentionItem& item) {
  uint32_t head = 0;
  for (; head + 4 <= item.head_count; head += 4) attend_heads<Product, 4>(item, head);
  for (; head + 2 <= item.head_count; head += 2) attend_heads<Product, 2>(item, head);
  for (; head < item.head_count; ++head) attend_heads<Product, 1>(item, head);
}

}  // namespace
}  // namespace trireme::worker
