// Paged attention over K and V in bf16 by tiles of AMX. See vec.h for who may include it,
// amx_tiles.h for tiles and attention_body.h for the algorithm, which is the same but for this:
// weights are powers of two against the largest score so far, not that of the span, and what the
// spans before gave is scaled to it.
//
// Up to 16 query rows make a tile. K of a chunk of 16 positions is a tile for each 32 columns of
// the head, V of a chunk is half a tile for each 16 columns. All rows of a tile are multiplied with
// all positions that one of them sees, the weight of those that it does not see being zero; an
// element is one sum along the head, or along the chunks, so a row's bits do not depend on the
// others. Only a V that is not a number would spoil it, for zero times that is no zero: such a row
// is done again alone.
#pragma once

#include "worker/kernels/cpu/amx_tiles.h"
#include "worker/kernels/cpu/attention_body.h"
#include "worker/kernels/cpu/transpose_body.h"

namespace trireme::worker {
namespace {

inline constexpr uint32_t kChunkUnits = kKvChunkTokens / Bf16Kv::kUnitColumns;

inline constexpr float kLog2E = 1.44269504F;

// Query rows, and what they have so far: sums = Σ e^(scale · (score - maximum)) · V.
struct TileRows {
  uint32_t count = 0;
  QueryRow rows[kTileRowsMax];
  Vec maximum = splat(kMinusInfinity);  // Of each row.
  Vec total = splat(0.0F);
  alignas(64) uint16_t q[kTileRowsMax][kAttentionHeadSizeMax];
  alignas(64) float sums[kTileRowsMax * kAttentionHeadSizeMax];
};

// Of one span.
struct TileSpan {
  Seen seen[kTileRowsMax];
  alignas(64) float scores[kTileRowsMax][kAttentionSpanTokens];
  RowWeights<Bf16Kv> weights[kTileRowsMax];
  alignas(64) float sums[kTileRowsMax * kAttentionHeadSizeMax];
};

// Tiles 0 to 3: scores of four chunks. 4 and 6: 32 columns of q and K; 5 and 7: the rest of them.
class ScoreTiles {
 public:
  ScoreTiles(TileScope& scope, uint32_t row_count, uint32_t head_size)
      : whole_(head_size / 2 / kTileUnits), rest_(head_size / 2 % kTileUnits) {
    // Half a tile is what multiply_values needs too.
    scope.configure({.first_rows = row_count,
                     .second_rows = row_count,
                     .other_units = rest_ > 0 ? rest_ : kChunkUnits});
  }

  template <uint32_t chunk_count>
  TRIREME_INLINE void run(const TileRows& tile, const Span<Bf16Kv>& span, uint32_t chunk,
                          TileSpan& out) const {
    const uint16_t* k[chunk_count];
    for (uint32_t c = 0; c < chunk_count; ++c) k[c] = span.k(chunk + c);
    _tile_zero(0);
    if constexpr (chunk_count == 4) {
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    constexpr uint32_t k_step = kTileUnits * kKvChunkTokens * 2;
    constexpr uint32_t q_stride = kAttentionHeadSizeMax * sizeof(uint16_t);
    uint32_t at = 0;
    for (uint32_t i = 0; i < whole_; ++i, at += k_step) {
      _tile_loadd(4, tile.q[0] + i * 2 * kTileUnits, q_stride);
      _tile_loadd(6, k[0] + at, kTileRowBytes);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (chunk_count == 4) {
        _tile_loadd(6, k[1] + at, kTileRowBytes);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(6, k[2] + at, kTileRowBytes);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(6, k[3] + at, kTileRowBytes);
        _tile_dpbf16ps(3, 4, 6);
      }
    }
    if (rest_ > 0) {
      _tile_loadd(5, tile.q[0] + whole_ * 2 * kTileUnits, q_stride);
      _tile_loadd(7, k[0] + at, kTileRowBytes);
      _tile_dpbf16ps(0, 5, 7);
      if constexpr (chunk_count == 4) {
        _tile_loadd(7, k[1] + at, kTileRowBytes);
        _tile_dpbf16ps(1, 5, 7);
        _tile_loadd(7, k[2] + at, kTileRowBytes);
        _tile_dpbf16ps(2, 5, 7);
        _tile_loadd(7, k[3] + at, kTileRowBytes);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    constexpr uint32_t score_stride = kAttentionSpanTokens * sizeof(float);
    float* scores = out.scores[0] + chunk * kKvChunkTokens;
    _tile_stored(0, scores, score_stride);
    if constexpr (chunk_count == 4) {
      _tile_stored(1, scores + kKvChunkTokens, score_stride);
      _tile_stored(2, scores + 2 * kKvChunkTokens, score_stride);
      _tile_stored(3, scores + 3 * kKvChunkTokens, score_stride);
    }
  }

 private:
  uint32_t whole_;
  uint32_t rest_;
};

// 2^x for x <= 0 within 4e-6 of it, a thousandth of what rounding to bf16 loses; 1 of 0, and 0 of
// -127 and below. NaN stays NaN.
TRIREME_INLINE Vec coarse_exp2(const Vec& x) {
  const Vec bounded = max(splat(-127.0F), x);
  const Vec shifted = bounded + kRoundingMagic;
  const Vec rest = bounded - (shifted - kRoundingMagic);
  // The least relative error over [-0.5, 0.5].
  Vec series = rest * 0.009582853F + 0.055906426F;
  series = series * rest + 0.24024099F;
  series = series * rest + 0.6931242F;
  series = series * rest + 1.0F;
  return bits_as<Vec>(bits_as<VecBits>(series) + (bits_as<VecBits>(shifted) << 23));
}

// One number of each row, in its lane: the tree of sum_lanes() over the row's lanes.
template <typename Operation>
TRIREME_INLINE Vec reduce_rows(const Vec (&rows)[kTileRowsMax], const Operation& operation) {
  VecBits bits[kTileRowsMax];
  for (uint32_t i = 0; i < kTileRowsMax; ++i) bits[i] = bits_as<VecBits>(rows[i]);
  transpose(bits);
  Vec lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = bits_as<Vec>(bits[i]);
#pragma GCC unroll 4
  for (uint32_t width = kLanes / 2; width > 0; width /= 2) {
    for (uint32_t i = 0; i < width; ++i) lanes[i] = operation(lanes[i], lanes[i + width]);
  }
  return lanes[0];
}

// Positions of a span in whole vectors.
struct SpanLanes {
  uint32_t begin;
  uint32_t end;
};

// What the row does not see cannot be the largest, and weighs nothing.
TRIREME_INLINE void hide_unseen(float* scores, Seen seen, SpanLanes lanes) {
  if (is_blind(seen)) seen = {lanes.end, lanes.end};
  for (uint32_t i = lanes.begin; i < seen.first; ++i) scores[i] = kMinusInfinity;
  for (uint32_t i = seen.last + 1; i < lanes.end; ++i) scores[i] = kMinusInfinity;
}

// Scores become weights. Gives what the sums so far are worth now, for each row.
TRIREME_INLINE Vec weigh_scores(const AttentionItem& item, TileRows& tile, SpanLanes lanes,
                                TileSpan& span) {
  const bool is_capped = item.soft_cap > 0.0F;
  Vec best[kTileRowsMax];
  for (uint32_t row = 0; row < kTileRowsMax; ++row) {
    best[row] = splat(kMinusInfinity);
    if (row >= tile.count) continue;
    float* scores = span.scores[row];
    if (is_capped) {
      for (uint32_t i = lanes.begin; i < lanes.end; i += kLanes) {
        store(scores + i, tanh(load(scores + i) * (item.scale / item.soft_cap)) * item.soft_cap);
      }
    }
    hide_unseen(scores, span.seen[row], lanes);
    for (uint32_t i = lanes.begin; i < lanes.end; i += kLanes) {
      best[row] = max(load(scores + i), best[row]);
    }
  }
  const float factor = is_capped ? kLog2E : item.scale * kLog2E;
  const Vec here = reduce_rows(best, [](const Vec& a, const Vec& b) { return max(a, b); });
  const Vec before = tile.maximum;
  tile.maximum = max(here, before);
  // A row that has seen nothing yet: its weights are 2^-inf, not 2^(-inf + inf).
  const Vec largest = select(tile.maximum > splat(kMinusInfinity), tile.maximum, splat(0.0F));
  alignas(64) float subtracted[kTileRowsMax];
  store(subtracted, largest);
  Vec totals[kTileRowsMax];
  for (uint32_t row = 0; row < kTileRowsMax; ++row) {
    totals[row] = splat(0.0F);
    if (row >= tile.count) continue;
    const float* scores = span.scores[row];
    uint16_t* weights = span.weights[row].values;
    for (uint32_t i = lanes.begin; i < lanes.end; i += kLanes) {
      const Vec weight = coarse_exp2((load(scores + i) - subtracted[row]) * factor);
      totals[row] += weight;
      put_values(weights + i, weight);
    }
  }
  const Vec kept = coarse_exp2((before - largest) * factor);
  const Vec total = reduce_rows(totals, [](const Vec& a, const Vec& b) { return a + b; });
  tile.total = tile.total * kept + total;
  return kept;
}

// V of a span's chunks: where it lies, or a copy in which positions that are not seen are zeros.
struct SpanValues {
  uint32_t begin;  // Chunks.
  uint32_t end;
  const uint16_t* chunks[kSpanChunks];
  alignas(64) uint32_t copies[2][kChunkUnits * kAttentionHeadSizeMax];

  SpanValues(const Span<Bf16Kv>& span, Seen seen)
      : begin(seen.first / kKvChunkTokens), end(seen.last / kKvChunkTokens + 1) {
    const uint32_t stride = round_to_lanes(span.item.head_size);
    for (uint32_t chunk = begin; chunk < end; ++chunk) {
      chunks[chunk] = span.v(chunk);
      const uint32_t position = chunk * kKvChunkTokens;
      if (seen.first <= position && position + kKvChunkTokens - 1 <= seen.last) continue;
      // The first or the last.
      uint32_t* copy = copies[chunk == begin ? 0 : 1];
      copy_seen(chunks[chunk], seen, position, stride, copy);
      chunks[chunk] = reinterpret_cast<const uint16_t*>(copy);
    }
    finish_stores();
  }

 private:
  static TRIREME_INLINE void copy_seen(const uint16_t* values, Seen seen, uint32_t begin,
                                       uint32_t stride, uint32_t* copy) {
    const auto* from = reinterpret_cast<const uint32_t*>(values);
    for (uint32_t unit = 0; unit < kChunkUnits; ++unit) {
      const uint32_t position = begin + 2 * unit;
      const bool is_seen = position + 1 >= seen.first && position <= seen.last;
      const uint32_t mask = is_seen ? seen_part<Bf16Kv>(position / 2, seen) : 0;
      for (uint32_t i = 0; i < stride; ++i)
        copy[unit * stride + i] = from[unit * stride + i] & mask;
    }
  }
};

// 16 columns for each of the tiles 0 to 3: as many chains, for each product of one waits for the
// one before.
template <uint32_t tile_count>
TRIREME_INLINE void multiply_columns(const SpanValues& values, const uint16_t* weights,
                                     uint32_t columns, uint32_t column, float* out) {
  constexpr uint32_t out_stride = kAttentionHeadSizeMax * sizeof(float);
  _tile_zero(0);
  if constexpr (tile_count > 1) _tile_zero(1);
  if constexpr (tile_count > 2) _tile_zero(2);
  if constexpr (tile_count > 3) _tile_zero(3);
  for (uint32_t chunk = values.begin; chunk < values.end; ++chunk) {
    const uint16_t* v = values.chunks[chunk] + 2 * column;
    _tile_loadd(5, weights + chunk * kKvChunkTokens, sizeof(RowWeights<Bf16Kv>));
    _tile_loadd(7, v, columns * 4);
    _tile_dpbf16ps(0, 5, 7);
    if constexpr (tile_count > 1) {
      _tile_loadd(7, v + 2 * kLanes, columns * 4);
      _tile_dpbf16ps(1, 5, 7);
    }
    if constexpr (tile_count > 2) {
      _tile_loadd(7, v + 4 * kLanes, columns * 4);
      _tile_dpbf16ps(2, 5, 7);
    }
    if constexpr (tile_count > 3) {
      _tile_loadd(7, v + 6 * kLanes, columns * 4);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out + column, out_stride);
  if constexpr (tile_count > 1) _tile_stored(1, out + column + kLanes, out_stride);
  if constexpr (tile_count > 2) _tile_stored(2, out + column + 2 * kLanes, out_stride);
  if constexpr (tile_count > 3) _tile_stored(3, out + column + 3 * kLanes, out_stride);
}

// out = Σ weight · V, for the rows whose weights these are.
void multiply_values(TileScope& scope, const SpanValues& values, uint32_t head_size,
                     uint32_t row_count, const RowWeights<Bf16Kv>* rows, float* out) {
  scope.configure({.first_rows = row_count, .second_rows = row_count, .other_units = kChunkUnits});
  const uint32_t columns = round_to_lanes(head_size);
  const uint16_t* weights = rows[0].values;
  uint32_t column = 0;
  for (; column + 4 * kLanes <= columns; column += 4 * kLanes) {
    multiply_columns<4>(values, weights, columns, column, out);
  }
  switch ((columns - column) / kLanes) {
    case 3:
      return multiply_columns<3>(values, weights, columns, column, out);
    case 2:
      return multiply_columns<2>(values, weights, columns, column, out);
    case 1:
      return multiply_columns<1>(values, weights, columns, column, out);
    default:
      return;
  }
}

TRIREME_INLINE bool has_nan(const float* sums, uint32_t columns) {
  Vec poison = {};
  for (uint32_t i = 0; i < columns; i += kLanes) poison += load(sums + i) * 0.0F;
  const float all = sum_lanes(poison);
  return all != all;
}

void attend_tile_span(TileScope& scope, const AttentionItem& item, TileRows& tile, uint32_t begin,
                      TileSpan& work) {
  const uint32_t end = begin + kAttentionSpanTokens - 1;
  const uint32_t columns = round_to_lanes(item.head_size);
  // Rows are in the order of their positions.
  const uint32_t first = tile.rows[0].first > begin ? tile.rows[0].first : begin;
  const uint32_t last = tile.rows[tile.count - 1].last < end ? tile.rows[tile.count - 1].last : end;
  const Span<Bf16Kv> span{item, begin, first, last};
  const Seen all{first - begin, last - begin};
  const ScoreTiles scores(scope, tile.count, item.head_size);
  uint32_t chunk = all.first / kKvChunkTokens;
  for (; chunk + 4 <= all.last / kKvChunkTokens + 1; chunk += 4) {
    scores.run<4>(tile, span, chunk, work);
  }
  for (; chunk <= all.last / kKvChunkTokens; ++chunk) scores.run<1>(tile, span, chunk, work);
  for (uint32_t row = 0; row < tile.count; ++row) {
    work.seen[row] = seen_in_span(tile.rows[row], begin);
  }
  const SpanLanes lanes{all.first / kLanes * kLanes, all.last / kLanes * kLanes + kLanes};
  alignas(64) float kept[kTileRowsMax];
  store(kept, weigh_scores(item, tile, lanes, work));
  finish_stores();
  multiply_values(scope, SpanValues(span, all), item.head_size, tile.count, work.weights,
                  work.sums);
  for (uint32_t row = 0; row < tile.count; ++row) {
    const Seen seen = work.seen[row];
    if (is_blind(seen)) continue;
    const float* here = work.sums + row * kAttentionHeadSizeMax;
    const bool sees_all = seen.first == all.first && seen.last == all.last;
    if (!sees_all && has_nan(here, columns)) {
      multiply_values(scope, SpanValues(span, seen), item.head_size, 1, work.weights + row,
                      work.sums + row * kAttentionHeadSizeMax);
    }
    float* sums = tile.sums + row * kAttentionHeadSizeMax;
    for (uint32_t i = 0; i < columns; i += kLanes) {
      store(sums + i, load(sums + i) * kept[row] + load(here + i));
    }
  }
}

void attend_tile(TileScope& scope, const AttentionItem& item, uint32_t row_begin,
                 uint32_t row_count) {
  TileRows tile;
  TileSpan work;
  tile.count = row_count;
  for (uint32_t row = 0; row < row_count; ++row) {
    tile.rows[row] = query_row(item, row_begin + row);
    float* sums = tile.sums + row * kAttentionHeadSizeMax;
    for (uint32_t i = 0; i < item.head_size; i += kLanes) {
      store(sums + i, splat(0.0F));
      const uint32_t left = item.head_size - i;
      const float* q = tile.rows[row].q + i;
      put_values(tile.q[row] + i, left < kLanes ? load_part(q, left, 0.0F) : load(q));
    }
  }
  finish_stores();
  uint32_t begin = tile.rows[0].first / kAttentionSpanTokens * kAttentionSpanTokens;
  for (; begin <= tile.rows[row_count - 1].last; begin += kAttentionSpanTokens) {
    attend_tile_span(scope, item, tile, begin, work);
  }
  alignas(64) float totals[kTileRowsMax];
  store(totals, tile.total);
  for (uint32_t row = 0; row < row_count; ++row) {
    store_attended(item, tile.rows[row], totals[row], tile.sums + row * kAttentionHeadSizeMax);
  }
}

void tile_attention(const AttentionItem& item) {
  const uint32_t row_count = item.token_count * item.head_count;
  TileScope scope;
  for (uint32_t row = 0; row < row_count; row += kTileRowsMax) {
    const uint32_t left = row_count - row;
    attend_tile(scope, item, row, left < kTileRowsMax ? left : kTileRowsMax);
  }
}

}  // namespace
}  // namespace trireme::worker
