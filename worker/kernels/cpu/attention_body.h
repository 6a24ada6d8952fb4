// Paged attention of some tokens of one sequence over its KV blocks. See vec.h for who may include
// it and kernel_table.h for the KV form.
//
// A query row is one head of one token; up to four rows, of one token or of neighbours, share each
// load of K and V.
// Positions are taken in fixed spans. Within a span: all scores, their maximum, exponentials, then
// the weighted sum of V, each output element one chain in the order of the positions. Spans are
// combined in order. Which positions a token sees depends on its own position alone, so its bits do
// not depend on how the prompt was cut or on who else is in the batch.
#pragma once

#include "worker/kernels/cpu/activation_body.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/kv_body.h"

namespace trireme::worker {
namespace {

using cpu::AttentionItem;
using cpu::kAttentionHeadSizeMax;
using cpu::kAttentionSpanTokens;

inline constexpr uint32_t kSpanChunks = kAttentionSpanTokens / kKvChunkTokens;
inline constexpr uint32_t kQueryRowsMax = 4;  // That share each load of K and V.
// Vectors of K or V that go at once: half of the registers hold their sums.
template <uint32_t row_count>
inline constexpr uint32_t kPartsAtOnce = row_count * 4 * Vec::kParts <= kRegisterCount / 2   ? 4
                                         : row_count * 2 * Vec::kParts <= kRegisterCount / 2 ? 2
                                                                                             : 1;
inline constexpr float kMinusInfinity = -__builtin_inff();

// One span as some query rows see it.
template <typename Kv>
struct Span {
  using Element = typename Kv::Element;
  const AttentionItem& item;
  uint32_t begin;  // Position of the span's first lane: a multiple of the span.
  uint32_t first;  // First and last position that some row sees, within [begin, begin + span).
  uint32_t last;

  // K of a chunk of 16 positions, counted from `begin`.
  [[nodiscard]] TRIREME_INLINE const Element* k(uint32_t chunk) const {
    const uint32_t position = begin + chunk * kKvChunkTokens;
    return block(position) + static_cast<uint64_t>(position % item.block_tokens) * item.head_size;
  }
  // V of the same positions, rows of round_to_lanes(head_size) units.
  [[nodiscard]] TRIREME_INLINE const Element* v(uint32_t chunk) const {
    const uint32_t position = begin + chunk * kKvChunkTokens;
    return block(position) + static_cast<uint64_t>(item.block_tokens) * item.head_size +
           static_cast<uint64_t>(position % item.block_tokens) * round_to_lanes(item.head_size);
  }
  // Of the same positions.
  [[nodiscard]] TRIREME_INLINE const float* k_scales(uint32_t chunk) const {
    const uint32_t position = begin + chunk * kKvChunkTokens;
    const Element* scales = block(position) + scales_offset(item.block_tokens, item.head_size);
    return reinterpret_cast<const float*>(scales) + position % item.block_tokens;
  }
  [[nodiscard]] TRIREME_INLINE const float* v_scales(uint32_t chunk) const {
    return k_scales(chunk) + item.block_tokens;
  }

 private:
  [[nodiscard]] TRIREME_INLINE const Element* block(uint32_t position) const {
    const auto index = static_cast<uint64_t>(item.blocks[position / item.block_tokens]);
    return reinterpret_cast<const Element*>(item.kv + index * item.block_stride);
  }
};

// Scores of head_count heads at chunk_count chunks, every score one chain along the head.
template <typename Kv, uint32_t head_count, uint32_t chunk_count>
void score_chunks(const Span<Kv>& span, const typename Kv::Unit* q, uint32_t chunk, float* scores) {
  using KeyUnit = typename Kv::KeyUnit;
  const uint32_t unit_count = span.item.head_size / Kv::kUnitColumns;
  const KeyUnit* k[chunk_count];
  for (uint32_t c = 0; c < chunk_count; ++c) {
    k[c] = reinterpret_cast<const KeyUnit*>(span.k(chunk + c));
  }
  Vec sums[head_count][chunk_count] = {};
  for (uint32_t unit = 0; unit < unit_count; ++unit) {
#pragma GCC unroll 4
    for (uint32_t c = 0; c < chunk_count; ++c) {
#pragma GCC unroll 4
      for (uint32_t head = 0; head < head_count; ++head) {
        sums[head][c] = Kv::multiply_add(sums[head][c], q[head * unit_count + unit],
                                         k[c] + unit * kKvChunkTokens);
      }
    }
  }
  for (uint32_t head = 0; head < head_count; ++head) {
    for (uint32_t c = 0; c < chunk_count; ++c) {
      Vec score = sums[head][c] * span.item.scale;
      if constexpr (Kv::kIsScaled) score *= load(span.k_scales(chunk + c));
      store(scores + head * kAttentionSpanTokens + (chunk + c) * kKvChunkTokens, score);
    }
  }
}

template <typename Kv, uint32_t head_count>
void score_span(const Span<Kv>& span, const typename Kv::Unit* q, float* scores) {
  uint32_t chunk = (span.first - span.begin) / kKvChunkTokens;
  const uint32_t chunk_end = (span.last - span.begin) / kKvChunkTokens + 1;
  constexpr uint32_t at_once = kPartsAtOnce<head_count>;
  for (; chunk + at_once <= chunk_end; chunk += at_once) {
    score_chunks<Kv, head_count, at_once>(span, q, chunk, scores);
  }
  for (; chunk < chunk_end; ++chunk) score_chunks<Kv, head_count, 1>(span, q, chunk, scores);
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

// Positions counted from the span's begin.
struct Seen {
  uint32_t first;
  uint32_t last;
};

// The scales of V go into the weights.
template <typename Kv>
TRIREME_INLINE void scale_weights(const Span<Kv>& span, Seen seen, float* weights) {
  for (uint32_t i = seen.first / kLanes * kLanes; i <= seen.last; i += kLanes) {
    store(weights + i, load(weights + i) * load(span.v_scales(i / kLanes)));
  }
}

// Weights of the positions of a span as the product with V takes them: units, all lanes of a chunk.
template <typename Kv>
struct RowWeights {
  using Unit = typename Kv::Unit;
  static constexpr uint32_t kUnits = kAttentionSpanTokens / Kv::kUnitColumns;
  alignas(64) typename Kv::Weight values[kAttentionSpanTokens];

  [[nodiscard]] TRIREME_INLINE Unit unit(uint32_t index) const {
    Unit all;
    __builtin_memcpy(&all, values + index * Kv::kUnitColumns, sizeof(all));
    return all;
  }
};

// The units at the ends of `seen` may hold a position that is not seen, which may be anything: it
// counts as zero.
template <typename Kv>
TRIREME_INLINE uint32_t seen_part(uint32_t unit, Seen seen) {
  uint32_t mask = ~0U;
  if constexpr (Kv::kUnitColumns == 2) {
    if (2 * unit < seen.first) mask = 0xffff0000U;
    if (2 * unit + 1 > seen.last) mask = 0x0000ffffU;
  }
  return mask;
}

// sums = Σ weight · V over `seen`, added to what is there if `continues`.
template <typename Kv, uint32_t row_count, uint32_t part_count>
void weigh_columns(const Span<Kv>& span, Seen seen, bool continues, const RowWeights<Kv>* weights,
                   uint32_t column, float* sums) {
  using Values = typename Kv::KeyUnit;
  constexpr uint32_t chunk_units = kKvChunkTokens / Kv::kUnitColumns;
  const uint32_t stride = round_to_lanes(span.item.head_size);
  Vec parts[row_count][part_count] = {};
  if (continues) {
    for (uint32_t row = 0; row < row_count; ++row) {
      for (uint32_t part = 0; part < part_count; ++part) {
        parts[row][part] = load(sums + row * kAttentionHeadSizeMax + column + part * kLanes);
      }
    }
  }
  const uint32_t end = seen.last / Kv::kUnitColumns + 1;
  const Values* chunk = nullptr;
  for (uint32_t unit = seen.first / Kv::kUnitColumns; unit < end; ++unit) {
    if (chunk == nullptr || unit % chunk_units == 0) {
      chunk = reinterpret_cast<const Values*>(span.v(unit / chunk_units)) + column;
    }
    const Values* v = chunk + static_cast<uint64_t>(unit % chunk_units) * stride;
    if constexpr (Kv::kUnitColumns == 2) {
      const uint32_t mask = seen_part<Kv>(unit, seen);
      if (mask != ~0U) {
        alignas(64) Values masked[part_count * kLanes];
        for (uint32_t i = 0; i < part_count * kLanes; ++i) masked[i] = v[i] & mask;
        for (uint32_t row = 0; row < row_count; ++row) {
          for (uint32_t part = 0; part < part_count; ++part) {
            parts[row][part] =
                Kv::multiply_add(parts[row][part], weights[row].unit(unit), masked + part * kLanes);
          }
        }
        continue;
      }
    }
#pragma GCC unroll 4
    for (uint32_t part = 0; part < part_count; ++part) {
#pragma GCC unroll 4
      for (uint32_t row = 0; row < row_count; ++row) {
        parts[row][part] =
            Kv::multiply_add(parts[row][part], weights[row].unit(unit), v + part * kLanes);
      }
    }
  }
  for (uint32_t row = 0; row < row_count; ++row) {
    for (uint32_t part = 0; part < part_count; ++part) {
      store(sums + row * kAttentionHeadSizeMax + column + part * kLanes, parts[row][part]);
    }
  }
}

template <typename Kv, uint32_t row_count>
void weigh_values(const Span<Kv>& span, Seen seen, bool continues, const RowWeights<Kv>* weights,
                  float* sums) {
  const uint32_t columns = round_to_lanes(span.item.head_size);
  uint32_t column = 0;
  constexpr uint32_t at_once = kPartsAtOnce<row_count>;
  for (; column + at_once * kLanes <= columns; column += at_once * kLanes) {
    weigh_columns<Kv, row_count, at_once>(span, seen, continues, weights, column, sums);
  }
  if constexpr (at_once > 2) {
    for (; column + 2 * kLanes <= columns; column += 2 * kLanes) {
      weigh_columns<Kv, row_count, 2>(span, seen, continues, weights, column, sums);
    }
  }
  for (; column < columns; column += kLanes) {
    weigh_columns<Kv, row_count, 1>(span, seen, continues, weights, column, sums);
  }
}

// What all rows see goes together, the rest row by row: a row never touches V of a position that it
// does not see, and its order of positions is the same in any company.
template <typename Kv, uint32_t row_count>
void weigh_rows(const Span<Kv>& span, const Seen (&seen)[row_count], const RowWeights<Kv>* weights,
                float* sums) {
  bool starts_together = true;
  uint32_t last = seen[0].last;
  for (uint32_t row = 1; row < row_count; ++row) {
    starts_together = starts_together && seen[row].first == seen[0].first;
    if (seen[row].last < last) last = seen[row].last;
  }
  // Whole units only: the rest begins with one.
  last = (last + 1) / Kv::kUnitColumns * Kv::kUnitColumns - 1;
  starts_together = starts_together && last + 1 > seen[0].first;
  if (starts_together) {
    weigh_values<Kv, row_count>(span, {seen[0].first, last}, false, weights, sums);
  }
  for (uint32_t row = 0; row < row_count; ++row) {
    const Seen rest{starts_together ? last + 1 : seen[row].first, seen[row].last};
    if (rest.first > rest.last) continue;
    weigh_values<Kv, 1>(span, rest, starts_together, weights + row,
                        sums + row * kAttentionHeadSizeMax);
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

// One head of one token.
struct QueryRow {
  const float* q;
  float* out;
  uint32_t first;  // Positions seen.
  uint32_t last;
};

TRIREME_INLINE QueryRow query_row(const AttentionItem& item, uint32_t index) {
  const uint32_t token = index / item.head_count;
  const uint64_t column = static_cast<uint64_t>(index % item.head_count) * item.head_size;
  const uint32_t last = item.is_causal ? item.position + token : item.position;
  const bool windowed = item.window_tokens > 0 && last >= item.window_tokens;
  return {item.q + static_cast<uint64_t>(token) * item.q_stride + column,
          item.out + static_cast<uint64_t>(token) * item.out_stride + column,
          windowed ? last + 1 - item.window_tokens : 0, last};
}

// What the row sees of the span; when that is nothing its last comes before its first.
TRIREME_INLINE Seen seen_in_span(const QueryRow& row, uint32_t begin) {
  const uint32_t end = begin + kAttentionSpanTokens - 1;
  if (row.last < begin || row.first > end) return {1, 0};
  return {row.first > begin ? row.first - begin : 0, (row.last < end ? row.last : end) - begin};
}
TRIREME_INLINE bool is_blind(Seen seen) { return seen.first > seen.last; }

// The weighted sum of V, divided by the sum of the weights.
TRIREME_INLINE void store_attended(const AttentionItem& item, const QueryRow& row, float total,
                                   const float* sum) {
  const float factor = 1.0F / total;
  uint32_t i = 0;
  for (; i + kLanes <= item.head_size; i += kLanes) store(row.out + i, load(sum + i) * factor);
  if (i < item.head_size) {
    store_part(row.out + i, load(sum + i) * factor, item.head_size - i);
  }
}

template <typename Kv, uint32_t row_count>
void attend_span(const AttentionItem& item, const QueryRow (&rows)[row_count], uint32_t begin,
                 const typename Kv::Unit* q, HeadState* states, float* sums) {
  alignas(64) float scores[row_count * kAttentionSpanTokens];
  alignas(64) float span_sums[row_count * kAttentionHeadSizeMax];
  RowWeights<Kv> weights[row_count];
  const uint32_t end = begin + kAttentionSpanTokens - 1;
  // Rows are in the order of their positions.
  const uint32_t first = rows[0].first > begin ? rows[0].first : begin;
  const uint32_t last = rows[row_count - 1].last < end ? rows[row_count - 1].last : end;
  const Span<Kv> span{item, begin, first, last};
  score_span<Kv, row_count>(span, q, scores);
  Seen seen[row_count];
  SpanSum totals[row_count] = {};
  for (uint32_t row = 0; row < row_count; ++row) {
    seen[row] = seen_in_span(rows[row], begin);
    if (is_blind(seen[row])) continue;
    float* row_scores = scores + row * kAttentionSpanTokens;
    if (item.soft_cap > 0.0F) soft_cap(row_scores, item.soft_cap, seen[row].last + 1);
    totals[row] = exponentiate(row_scores, seen[row].first, seen[row].last);
    if constexpr (Kv::kIsScaled) scale_weights(span, seen[row], row_scores);
    for (uint32_t i = seen[row].first / kLanes * kLanes; i <= seen[row].last; i += kLanes) {
      put_values(weights[row].values + i, load(row_scores + i));
    }
  }
  weigh_rows<Kv, row_count>(span, seen, weights, span_sums);
  for (uint32_t row = 0; row < row_count; ++row) {
    if (is_blind(seen[row])) continue;
    combine(states[row], sums + row * kAttentionHeadSizeMax, totals[row],
            span_sums + row * kAttentionHeadSizeMax, round_to_lanes(item.head_size));
  }
}

template <typename Kv, uint32_t row_count>
void attend_rows(const AttentionItem& item, uint32_t row_begin) {
  alignas(64) typename Kv::Unit q[kQueryRowsMax * kAttentionHeadSizeMax];
  alignas(64) float sums[row_count * kAttentionHeadSizeMax];
  HeadState states[row_count];
  QueryRow rows[row_count];
  const uint32_t size = item.head_size;
  const uint32_t unit_count = size / Kv::kUnitColumns;
  for (uint32_t row = 0; row < row_count; ++row) {
    rows[row] = query_row(item, row_begin + row);
    for (uint32_t i = 0; i < unit_count; ++i) {
      q[row * unit_count + i] = Kv::pack(rows[row].q + i * Kv::kUnitColumns, Kv::kUnitColumns);
    }
  }
  uint32_t begin = rows[0].first / kAttentionSpanTokens * kAttentionSpanTokens;
  for (; begin <= rows[row_count - 1].last; begin += kAttentionSpanTokens) {
    attend_span<Kv, row_count>(item, rows, begin, q, states, sums);
  }
  for (uint32_t row = 0; row < row_count; ++row) {
    store_attended(item, rows[row], states[row].total, sums + row * kAttentionHeadSizeMax);
  }
}

template <typename Kv>
void attention(const AttentionItem& item) {
  const uint32_t row_count = item.token_count * item.head_count;
  uint32_t row = 0;
  for (; row + 4 <= row_count; row += 4) attend_rows<Kv, 4>(item, row);
  switch (row_count - row) {
    case 3:
      return attend_rows<Kv, 3>(item, row);
    case 2:
      return attend_rows<Kv, 2>(item, row);
    case 1:
      return attend_rows<Kv, 1>(item, row);
    default:
      return;
  }
}

}  // namespace
}  // namespace trireme::worker
