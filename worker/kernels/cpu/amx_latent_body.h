// Attention over a latent cache in bf16 by tiles of AMX. See vec.h for who may include it,
// amx_tiles.h for tiles and latent_attention_body.h for the algorithm, which is the same.
//
// Rows of the cache are the first operand as they lie: scores come as [position][head], so that a
// softmax runs in the lanes of the heads. For the values the rows of two positions are interleaved,
// 32 columns of 32 positions at a time. Queries, and the weights beside the values, are rounded to
// bf16. A position that is not seen counts as zeros, whatever is there; an element is one sum along
// the columns, or the positions, so its bits do not depend on the other heads.
#pragma once

#include "worker/kernels/cpu/amx_tiles.h"
#include "worker/kernels/cpu/latent_attention_body.h"
#include "worker/kernels/cpu/transpose_body.h"

namespace trireme::worker {
namespace {

inline constexpr uint32_t kTileColumns = 2 * kTileUnits;  // In bf16; also positions, of weights.
inline constexpr uint32_t kSpanPairs = kAttentionSpanTokens / 2;
static_assert(kLatentHeadsMax == kTileRowsMax && kKvChunkTokens == kTileRowsMax);

struct TileLatentHeads {
  alignas(64) uint32_t q[kLatentKeySizeMax / 2 * kLanes];  // [unit][head]
  alignas(64) float sums[kLatentHeadsMax * kAttentionHeadSizeMax];
  HeadState states[kLatentHeadsMax];
};

struct TileLatentSpan {
  alignas(64) float scores[kAttentionSpanTokens * kLanes];  // [position][head]
  alignas(64) uint32_t weights[kLanes * kSpanPairs];        // [head][pair of positions]
  alignas(64) uint32_t values[2][kLanes * kLanes];          // Of 16 columns: [pair][column]
  alignas(64) float maxima[kLanes];
  alignas(64) float totals[kLanes];
  alignas(64) float sums[kLatentHeadsMax * kAttentionHeadSizeMax];
};

// Heads that are not there have zeros.
TRIREME_INLINE void pack_latent_queries(const LatentAttentionItem& item, uint32_t* out) {
  const uint32_t rest_size = item.key_size - item.value_size;
  for (uint32_t column = 0; column < item.key_size; column += kTileColumns) {
    alignas(64) VecBits units[kLanes] = {};
    for (uint32_t head = 0; head < item.head_count; ++head) {
      alignas(64) float values[kTileColumns];
      for (uint32_t i = 0; i < kTileColumns; i += kLanes) {
        const uint32_t at = column + i;
        const uint64_t row = head;
        store(values + i, at < item.value_size
                              ? load(item.q + row * item.value_size + at)
                              : load(item.q_rest + row * rest_size + at - item.value_size));
      }
      Bf16Product::pack_lanes(values, reinterpret_cast<uint32_t*>(&units[head]));
    }
    transpose(units);
    for (uint32_t i = 0; i < kLanes; ++i) {
      store_bits(out + (column / 2 + i) * kLanes, units[i]);
    }
  }
}

// Of 16 positions a chunk.
template <uint32_t chunk_count>
TRIREME_INLINE void score_latent_chunks(const LatentSpan<uint16_t>& span, const uint32_t* q,
                                        uint32_t position, float* scores) {
  const uint32_t key_size = span.item.key_size;
  const uint64_t stride = key_size * sizeof(uint16_t);
  const uint16_t* rows[chunk_count];
  for (uint32_t i = 0; i < chunk_count; ++i) rows[i] = span.rows[position + i * kKvChunkTokens];
  _tile_zero(0);
  if constexpr (chunk_count == 4) {
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (uint32_t column = 0; column < key_size; column += kTileColumns) {
    _tile_loadd(6, q + column / 2 * kLanes, kTileRowBytes);
    _tile_loadd(4, rows[0] + column, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (chunk_count == 4) {
      _tile_loadd(5, rows[1] + column, stride);
      _tile_dpbf16ps(1, 5, 6);
      _tile_loadd(4, rows[2] + column, stride);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(5, rows[3] + column, stride);
      _tile_dpbf16ps(3, 5, 6);
    }
  }
  constexpr uint32_t chunk_values = kKvChunkTokens * kLanes;
  float* out = scores + position * kLanes;
  _tile_stored(0, out, kTileRowBytes);
  if constexpr (chunk_count == 4) {
    _tile_stored(1, out + chunk_values, kTileRowBytes);
    _tile_stored(2, out + 2 * chunk_values, kTileRowBytes);
    _tile_stored(3, out + 3 * chunk_values, kTileRowBytes);
  }
}

// Scores of all heads become weights, [head][pair]; zeros up to whole tiles of positions.
TRIREME_INLINE void weigh_latent_scores(float scale, uint32_t count, TileLatentSpan& span) {
  Vec best = splat(kMinusInfinity);
  for (uint32_t i = 0; i < count; ++i) {
    const Vec score = load(span.scores + i * kLanes) * scale;
    store(span.scores + i * kLanes, score);
    best = max(score, best);
  }
  Vec total = {};
  const auto weight_of = [&](uint32_t position) {
    if (position >= count) return Vec{};
    const Vec weight = exp(load(span.scores + position * kLanes) - best);
    total += weight;
    return weight;
  };
  const auto rounded = [](const Vec& value) {
    const VecBits bits = bits_as<VecBits>(value);
    return bits + 0x7fffU + ((bits >> 16) & 1U);
  };
  for (uint32_t begin = 0; begin < count; begin += kTileColumns) {
    alignas(64) VecBits pairs[kLanes];
    for (uint32_t i = 0; i < kLanes; ++i) {
      const Vec first = weight_of(begin + 2 * i);
      const Vec second = weight_of(begin + 2 * i + 1);
      pairs[i] = (rounded(first) >> 16) | (rounded(second) & 0xffff0000U);
    }
    transpose(pairs);
    for (uint32_t head = 0; head < kLanes; ++head) {
      store_bits(span.weights + head * kSpanPairs + begin / 2, pairs[head]);
    }
  }
  store(span.maxima, best);
  store(span.totals, total);
}

// 32 columns of 32 positions, two positions in a unit.
TRIREME_INLINE void interleave_values(const LatentSpan<uint16_t>& span, uint32_t position,
                                      uint32_t column, TileLatentSpan& work) {
  alignas(64) uint16_t left_lanes[2 * kLanes];
  alignas(64) uint16_t right_lanes[2 * kLanes];
  for (uint32_t i = 0; i < 2 * kLanes; ++i) {
    left_lanes[i] = static_cast<uint16_t>(i / 2 + i % 2 * 2 * kLanes);
    right_lanes[i] = static_cast<uint16_t>(left_lanes[i] + kLanes);
  }
  const __m512i left = _mm512_load_si512(left_lanes);
  const __m512i right = _mm512_load_si512(right_lanes);
  const auto row_of = [&](uint32_t at) {
    return at < span.count ? _mm512_loadu_si512(span.rows[at] + column) : _mm512_setzero_si512();
  };
  for (uint32_t pair = 0; pair < kLanes; ++pair) {
    const __m512i first = row_of(position + 2 * pair);
    const __m512i second = row_of(position + 2 * pair + 1);
    _mm512_store_si512(work.values[0] + pair * kLanes,
                       _mm512_permutex2var_epi16(first, left, second));
    _mm512_store_si512(work.values[1] + pair * kLanes,
                       _mm512_permutex2var_epi16(first, right, second));
  }
}

void weigh_latent_values(const LatentSpan<uint16_t>& span, TileLatentSpan& work) {
  constexpr uint32_t out_stride = kAttentionHeadSizeMax * sizeof(float);
  const uint32_t value_size = span.item.value_size;
  for (uint32_t column = 0; column < value_size; column += kTileColumns) {
    clear_tiles(false);
    for (uint32_t position = 0; position < span.count; position += kTileColumns) {
      interleave_values(span, position, column, work);
      finish_stores();
      _tile_loadd(4, work.weights + position / 2, kSpanPairs * sizeof(uint32_t));
      _tile_loadd(6, work.values[0], kTileRowBytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, work.values[1], kTileRowBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, work.sums + column, out_stride);
    if (column + kLanes < value_size) _tile_stored(1, work.sums + column + kLanes, out_stride);
  }
}

void attend_latent_tile_span(const LatentAttentionItem& item, uint32_t begin,
                             TileLatentHeads& heads, TileLatentSpan& work) {
  const LatentSpan<uint16_t> span(item, begin);
  uint32_t position = 0;
  for (; position + 4 * kKvChunkTokens <= round_to_lanes(span.count);
       position += 4 * kKvChunkTokens) {
    score_latent_chunks<4>(span, heads.q, position, work.scores);
  }
  for (; position < span.count; position += kKvChunkTokens) {
    score_latent_chunks<1>(span, heads.q, position, work.scores);
  }
  finish_stores();
  weigh_latent_scores(item.scale, span.count, work);
  weigh_latent_values(span, work);
  finish_stores();
  for (uint32_t head = 0; head < item.head_count; ++head) {
    const uint64_t at = static_cast<uint64_t>(head) * kAttentionHeadSizeMax;
    combine(heads.states[head], heads.sums + at, {work.maxima[head], work.totals[head]},
            work.sums + at, item.value_size);
  }
}

void tile_attend_latent(const LatentAttentionItem& item) {
  // Half a tile of columns at the end would reach into the next row.
  if (item.key_size % kTileColumns != 0) return attend_latent<uint16_t>(item);
  TileLatentHeads heads;
  TileLatentSpan work;
  TileScope scope;
  scope.configure({.first_rows = kTileRowsMax, .second_rows = kTileRowsMax});
  pack_latent_queries(item, heads.q);
  finish_stores();
  for (uint32_t begin = 0; begin <= item.position; begin += kAttentionSpanTokens) {
    attend_latent_tile_span(item, begin, heads, work);
  }
  for (uint32_t head = 0; head < item.head_count; ++head) {
    const float* sums = heads.sums + static_cast<uint64_t>(head) * kAttentionHeadSizeMax;
    float* out = item.out + static_cast<uint64_t>(head) * item.value_size;
    const float factor = 1.0F / heads.states[head].total;
    for (uint32_t i = 0; i < item.value_size; i += kLanes) store(out + i, load(sums + i) * factor);
  }
}

}  // namespace
}  // namespace trireme::worker
