// Paged attention over K and V in bf16 by tiles of AMX. See vec.h for who may include it,
// amx_tiles.h for tiles and attention_body.h for the algorithm, which is the same: spans of
// positions, each with its own maximum, combined in order.
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

namespace trireme::worker {
namespace {

inline constexpr uint32_t kChunkUnits = kKvChunkTokens / Bf16Kv::kUnitColumns;

// A query row of up to 16, and what it has so far.
struct TileRows {
  uint32_t count = 0;
  QueryRow rows[kTileRowsMax];
  HeadState states[kTileRowsMax];
  alignas(64) uint16_t q[kTileRowsMax][kAttentionHeadSizeMax];
  alignas(64) float sums[kTileRowsMax * kAttentionHeadSizeMax];
};

// Of one span.
struct TileSpan {
  Seen seen[kTileRowsMax];
  SpanSum totals[kTileRowsMax];
  alignas(64) float scores[kTileRowsMax][kAttentionSpanTokens];
  RowWeights<Bf16Kv> weights[kTileRowsMax];
  alignas(64) float sums[kTileRowsMax * kAttentionHeadSizeMax];
};

// Tiles 0 to 3: scores of four chunks. 4 and 6: 32 columns of q and K; 5 and 7: the rest of them.
class ScoreTiles {
 public:
  ScoreTiles(TileScope& scope, uint32_t row_count, uint32_t head_size)
      : whole_(head_size / 2 / kTileUnits), rest_(head_size / 2 % kTileUnits) {
    scope.configure({.first_rows = row_count, .second_rows = row_count, .other_units = rest_});
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

// Scores of the row become weights; those that it does not see, up to whole chunks of `all`, zeros.
TRIREME_INLINE void weigh_scores(const AttentionItem& item, Seen all, uint32_t row,
                                 TileSpan& span) {
  const Seen seen = span.seen[row];
  float* scores = span.scores[row];
  uint16_t* weights = span.weights[row].values;
  const uint32_t begin = seen.first / kLanes * kLanes;
  const uint32_t end = seen.last / kLanes * kLanes + kLanes;
  for (uint32_t i = begin; i < end; i += kLanes) store(scores + i, load(scores + i) * item.scale);
  if (item.soft_cap > 0.0F) soft_cap(scores + begin, item.soft_cap, seen.last + 1 - begin);
  span.totals[row] = exponentiate(scores, seen.first, seen.last);
  for (uint32_t i = all.first / kLanes * kLanes; i < begin; i += kLanes) {
    put_values(weights + i, splat(0.0F));
  }
  for (uint32_t i = begin; i < end; i += kLanes) put_values(weights + i, load(scores + i));
  for (uint32_t i = end; i <= all.last; i += kLanes) put_values(weights + i, splat(0.0F));
}

// V of one chunk: where it lies, or a copy in which positions that are not seen are zeros.
struct ChunkValues {
  const uint16_t* at;
  alignas(64) uint32_t copy[kChunkUnits * kAttentionHeadSizeMax];

  TRIREME_INLINE void set(const Span<Bf16Kv>& span, Seen seen, uint32_t chunk) {
    at = span.v(chunk);
    const uint32_t begin = chunk * kKvChunkTokens;
    if (seen.first <= begin && begin + kKvChunkTokens - 1 <= seen.last) return;
    const uint32_t stride = round_to_lanes(span.item.head_size);
    const auto* from = reinterpret_cast<const uint32_t*>(at);
    for (uint32_t unit = 0; unit < kChunkUnits; ++unit) {
      const uint32_t position = begin + 2 * unit;
      const bool is_seen = position + 1 >= seen.first && position <= seen.last;
      const uint32_t mask = is_seen ? seen_part<Bf16Kv>(position / 2, seen) : 0;
      for (uint32_t i = 0; i < stride; ++i)
        copy[unit * stride + i] = from[unit * stride + i] & mask;
    }
    at = reinterpret_cast<const uint16_t*>(copy);
    finish_stores();
  }
};

// out = Σ weight · V over `seen`, for the rows whose weights these are.
void multiply_values(TileScope& scope, const Span<Bf16Kv>& span, Seen seen, uint32_t row_count,
                     const RowWeights<Bf16Kv>* weights, float* out) {
  scope.configure({.first_rows = row_count, .unit_count = kChunkUnits, .other_units = kChunkUnits});
  const uint32_t columns = round_to_lanes(span.item.head_size);
  constexpr uint32_t out_stride = kAttentionHeadSizeMax * sizeof(float);
  ChunkValues values;
  for (uint32_t column = 0; column < columns; column += 2 * kLanes) {
    const bool has_right = column + kLanes < columns;
    clear_tiles(false);
    for (uint32_t chunk = seen.first / kKvChunkTokens; chunk <= seen.last / kKvChunkTokens;
         ++chunk) {
      values.set(span, seen, chunk);
      const uint16_t* v = values.at + 2 * column;
      _tile_loadd(4, weights[0].values + chunk * kKvChunkTokens, sizeof(*weights));
      _tile_loadd(6, v, columns * 4);
      _tile_dpbf16ps(0, 4, 6);
      if (!has_right) continue;
      _tile_loadd(7, v + 2 * kLanes, columns * 4);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, out + column, out_stride);
    if (has_right) _tile_stored(1, out + column + kLanes, out_stride);
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
    if (is_blind(work.seen[row])) {
      for (uint32_t i = all.first / kLanes * kLanes; i <= all.last; i += kLanes) {
        put_values(work.weights[row].values + i, splat(0.0F));
      }
    } else {
      weigh_scores(item, all, row, work);
    }
  }
  finish_stores();
  multiply_values(scope, span, all, tile.count, work.weights, work.sums);
  for (uint32_t row = 0; row < tile.count; ++row) {
    const Seen seen = work.seen[row];
    if (is_blind(seen)) continue;
    float* sums = work.sums + row * kAttentionHeadSizeMax;
    const bool sees_all = seen.first == all.first && seen.last == all.last;
    if (!sees_all && has_nan(sums, columns)) {
      multiply_values(scope, span, seen, 1, work.weights + row, sums);
    }
    combine(tile.states[row], tile.sums + row * kAttentionHeadSizeMax, work.totals[row], sums,
            columns);
  }
}

void attend_tile(TileScope& scope, const AttentionItem& item, uint32_t row_begin,
                 uint32_t row_count) {
  TileRows tile;
  TileSpan work;
  tile.count = row_count;
  for (uint32_t row = 0; row < row_count; ++row) {
    tile.rows[row] = query_row(item, row_begin + row);
    for (uint32_t i = 0; i < item.head_size; i += kLanes) {
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
  for (uint32_t row = 0; row < row_count; ++row) {
    store_attended(item, tile.rows[row], tile.states[row], tile.sums + row * kAttentionHeadSizeMax);
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
