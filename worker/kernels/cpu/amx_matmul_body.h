// The matrix product by tiles of AMX, for bf16 and int8. See vec.h for who may include it,
// amx_tiles.h for the tiles and kernel_table.h for the forms; a unit block of packed rows is a
// tile.
//
// An output element is one sum along all of K: it stays in a tile, or, where K is taken in blocks
// so that panel and rows come from the first-level cache, waits for the next block in memory,
// whole.
#pragma once

#include "worker/kernels/cpu/amx_tiles.h"
#include "worker/kernels/cpu/integer_matmul_body.h"
#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/product_body.h"

namespace trireme::worker {
namespace {

using cpu::kHalfBlockUnits;
using cpu::kPanelColumns;
using cpu::MatmulPiece;
using cpu::RowScale;
using cpu::RowsToPack;

// [row][16] of the left and of the right half of a panel, for each of two tiles of rows.
struct TileSums {
  alignas(64) uint32_t tiles[4][kTileRowsMax * kTileUnits];

  [[nodiscard]] TRIREME_INLINE const uint32_t* row(uint32_t tile, uint32_t index,
                                                   uint32_t half) const {
    return tiles[2 * tile + half] + index * kTileUnits;
  }
};

// Two row tiles, or one, of a matmul.
struct TilePair {
  uint32_t row;  // The first.
  TileShape shape;
};

TRIREME_INLINE TilePair tile_pair(const MatmulPiece& piece, uint32_t row) {
  const uint32_t left = piece.row_count - row;
  const uint32_t first = left < piece.rows_per_tile ? left : piece.rows_per_tile;
  const uint32_t second = left - first < piece.rows_per_tile ? left - first : piece.rows_per_tile;
  return {row, {.first_rows = first, .second_rows = second}};
}

TRIREME_INLINE void load_sums(const TileSums& sums, bool has_second) {
  _tile_loadd(0, sums.tiles[0], kTileRowBytes);
  _tile_loadd(1, sums.tiles[1], kTileRowBytes);
  if (!has_second) return;
  _tile_loadd(2, sums.tiles[2], kTileRowBytes);
  _tile_loadd(3, sums.tiles[3], kTileRowBytes);
}

TRIREME_INLINE void store_sums(TileSums& sums, bool has_second) {
  _tile_stored(0, sums.tiles[0], kTileRowBytes);
  _tile_stored(1, sums.tiles[1], kTileRowBytes);
  if (!has_second) return;
  _tile_stored(2, sums.tiles[2], kTileRowBytes);
  _tile_stored(3, sums.tiles[3], kTileRowBytes);
}

struct Bf16Tiles {
  static constexpr bool kSumsAreResults = true;
  static TRIREME_INLINE void multiply_first_left() { _tile_dpbf16ps(0, 4, 6); }
  static TRIREME_INLINE void multiply_first_right() { _tile_dpbf16ps(1, 4, 7); }
  static TRIREME_INLINE void multiply_second_left() { _tile_dpbf16ps(2, 5, 6); }
  static TRIREME_INLINE void multiply_second_right() { _tile_dpbf16ps(3, 5, 7); }
  static TRIREME_INLINE Vec result(const MatmulPiece&, const uint32_t* sums, uint32_t, uint32_t) {
    return load(reinterpret_cast<const float*>(sums));
  }
};

struct Int8Tiles {
  static constexpr bool kSumsAreResults = false;
  static TRIREME_INLINE void multiply_first_left() { _tile_dpbsud(0, 4, 6); }
  static TRIREME_INLINE void multiply_first_right() { _tile_dpbsud(1, 4, 7); }
  static TRIREME_INLINE void multiply_second_left() { _tile_dpbsud(2, 5, 6); }
  static TRIREME_INLINE void multiply_second_right() { _tile_dpbsud(3, 5, 7); }
  static TRIREME_INLINE Vec result(const MatmulPiece& piece, const uint32_t* sums, uint32_t row,
                                   uint32_t column) {
    const RowScale& scale = piece.row_scales[row];
    return Int8Product::scaled(bits_as<VecInt>(load_bits(sums)), scale,
                               piece.column_scales + column);
  }
};

// What a pass over some blocks of a panel brings into the second-level cache meanwhile: its share
// of those that come next. The hardware does not see them coming while rows pass over the same
// block.
struct NextBlocks {
  const uint32_t* lines;
  // Of the lines for one block, how many beside each of its four products: all at once they would
  // keep the next tiles waiting, and the product with them.
  uint8_t beside[4];
};
inline constexpr uint32_t kLinesPerBlock = 2 * kTileUnits;  // Of a panel.

TRIREME_INLINE NextBlocks next_blocks(const uint32_t* lines, uint32_t pair_count) {
  const uint32_t share = (kLinesPerBlock + pair_count - 1) / pair_count;
  NextBlocks next{lines, {}};
  for (uint32_t i = 0; i < share; ++i) ++next.beside[i % 4];
  return next;
}

// is_alone: nobody shares the block, so that its lines are all of one.
template <bool is_alone, uint32_t product>
TRIREME_INLINE void prefetch_beside(NextBlocks& next) {
  const uint32_t count = is_alone ? kLinesPerBlock / 4 : next.beside[product];
  for (uint32_t line = 0; line < count; ++line) {
    _mm_prefetch(next.lines, _MM_HINT_T1);
    next.lines += kTileUnits;
  }
}

// Of a block that others share, all at once.
TRIREME_INLINE void prefetch_block(NextBlocks& next) {
  prefetch_beside<false, 0>(next);
  prefetch_beside<false, 1>(next);
  prefetch_beside<false, 2>(next);
  prefetch_beside<false, 3>(next);
}

// block_count tiles along K.
template <typename Tiles, bool has_second, bool is_alone>
TRIREME_INLINE void multiply_blocks(const uint32_t* first, const uint32_t* second,
                                    const TileShape& shape, const uint32_t* panel,
                                    uint32_t block_count, NextBlocks& next) {
  const uint32_t first_step = shape.first_rows * kTileUnits;
  const uint32_t second_step = shape.second_rows * kTileUnits;
  for (uint32_t block = 0; block < block_count; ++block) {
    _tile_loadd(6, panel, kTileRowBytes);
    prefetch_beside<is_alone, 0>(next);
    _tile_loadd(4, first, kTileRowBytes);
    Tiles::multiply_first_left();
    prefetch_beside<is_alone, 1>(next);
    _tile_loadd(7, panel + kHalfBlockUnits, kTileRowBytes);
    Tiles::multiply_first_right();
    prefetch_beside<is_alone, 2>(next);
    if constexpr (has_second) {
      _tile_loadd(5, second, kTileRowBytes);
      Tiles::multiply_second_left();
      prefetch_beside<is_alone, 3>(next);
      Tiles::multiply_second_right();
      second += second_step;
    } else {
      prefetch_beside<is_alone, 3>(next);
    }
    first += first_step;
    panel += kTileUnits * kPanelColumns;
  }
}

template <typename Tiles, bool is_alone>
TRIREME_INLINE void multiply_pair(const uint32_t* first, const uint32_t* second,
                                  const TileShape& shape, const uint32_t* panel,
                                  uint32_t block_count, NextBlocks& next) {
  if (shape.second_rows > 0) {
    multiply_blocks<Tiles, true, is_alone>(first, second, shape, panel, block_count, next);
  } else {
    multiply_blocks<Tiles, false, is_alone>(first, second, shape, panel, block_count, next);
  }
}

template <typename Tiles>
void store_result(const MatmulPiece& piece, const TilePair& pair, uint32_t panel,
                  const TileSums& sums) {
  const uint32_t column = panel * kPanelColumns;
  for (uint32_t tile = 0; tile < 2; ++tile) {
    const uint32_t rows = tile == 0 ? pair.shape.first_rows : pair.shape.second_rows;
    const uint32_t first_row = pair.row + tile * pair.shape.first_rows;
    for (uint32_t index = 0; index < rows; ++index) {
      const uint32_t row = first_row + index;
      store_panel(piece, panel, piece.out + static_cast<uint64_t>(row) * piece.out_stride,
                  Tiles::result(piece, sums.row(tile, index, 0), row, column),
                  Tiles::result(piece, sums.row(tile, index, 1), row, column + kLanes));
    }
  }
}

// From the tiles to where they belong.
TRIREME_INLINE void store_tiles(const MatmulPiece& piece, const TilePair& pair, uint32_t panel) {
  float* out = piece.out + static_cast<uint64_t>(pair.row) * piece.out_stride +
               static_cast<uint64_t>(panel) * kPanelColumns;
  const uint64_t stride = piece.out_stride * sizeof(float);
  _tile_stored(0, out, stride);
  _tile_stored(1, out + kLanes, stride);
  if (pair.shape.second_rows == 0) return;
  out += static_cast<uint64_t>(pair.shape.first_rows) * piece.out_stride;
  _tile_stored(2, out, stride);
  _tile_stored(3, out + kLanes, stride);
}

// Unit blocks that panel and rows of a pair share the first-level cache with.
inline constexpr uint32_t kBlocksAtOnce = 8;
// The more rows pass over a block of a panel, the longer the next one has to come from memory.
inline constexpr uint32_t kPairsAtOnce = 16;
inline constexpr uint32_t kRowsAtOnce = kPairsAtOnce * 2 * kTileRowsMax;
inline constexpr uint32_t kTilePanelsAtOnce = 4;
// 4 KiB: how far a single pass looks ahead in its panel.
inline constexpr uint32_t kUnitsAhead = 1024;

// The sums of a pass that is over: they stay in the tiles until the next one needs these, and then
// leave one by one, between its products. (Stored and loaded all at once, they cost a third of a
// pass: nothing multiplies meanwhile.)
class SumsInTiles {
 public:
  explicit SumsInTiles(TileScope& scope) : scope_(scope) {}
  SumsInTiles(const SumsInTiles&) = delete;
  SumsInTiles& operator=(const SumsInTiles&) = delete;

  // `to`: where they go.
  TRIREME_INLINE void hold(TileSums& to) { to_ = &to; }

  TRIREME_INLINE void store() {
    if (to_ == nullptr) return;
    store_sums(*to_, scope_.shape().second_rows > 0);
    to_ = nullptr;
  }

  // Whether exchange() can begin the next pass.
  [[nodiscard]] TRIREME_INLINE bool can_exchange(const TileShape& shape) const {
    return to_ != nullptr && shape == scope_.shape() && shape.second_rows > 0;
  }

  // Those held go, `next` come, and the first block is multiplied.
  template <typename Tiles>
  TRIREME_INLINE void exchange(const TileSums& next, const uint32_t* first, const uint32_t* second,
                               const uint32_t* panel) {
    _tile_loadd(6, panel, kTileRowBytes);
    _tile_loadd(4, first, kTileRowBytes);
    _tile_stored(0, to_->tiles[0], kTileRowBytes);
    _tile_loadd(0, next.tiles[0], kTileRowBytes);
    Tiles::multiply_first_left();
    _tile_loadd(7, panel + kHalfBlockUnits, kTileRowBytes);
    _tile_stored(1, to_->tiles[1], kTileRowBytes);
    _tile_loadd(1, next.tiles[1], kTileRowBytes);
    Tiles::multiply_first_right();
    _tile_loadd(5, second, kTileRowBytes);
    _tile_stored(2, to_->tiles[2], kTileRowBytes);
    _tile_loadd(2, next.tiles[2], kTileRowBytes);
    Tiles::multiply_second_left();
    _tile_stored(3, to_->tiles[3], kTileRowBytes);
    _tile_loadd(3, next.tiles[3], kTileRowBytes);
    Tiles::multiply_second_right();
    to_ = nullptr;
  }

 private:
  TileScope& scope_;
  TileSums* to_ = nullptr;
};

// Some panels over up to kPairsAtOnce pairs of row tiles.
template <typename Tiles>
void multiply_panels(const MatmulPiece& piece, uint32_t row_begin, uint32_t row_end,
                     uint32_t panel_begin, uint32_t panel_end, TileScope& scope, TileSums* sums) {
  const uint32_t blocks = piece.unit_count / kTileUnits;
  const uint64_t panel_units = static_cast<uint64_t>(piece.unit_count) * kPanelColumns;
  const auto* rows = static_cast<const uint32_t*>(piece.rows);
  const auto* panels = static_cast<const uint32_t*>(piece.panels);
  // One pair of tiles finds nothing to share: all of K at once.
  const uint32_t pair_rows = 2 * piece.rows_per_tile;
  const uint32_t pairs = (row_end - row_begin + pair_rows - 1) / pair_rows;
  const uint32_t step = pairs == 1 ? blocks : kBlocksAtOnce;
  const auto blocks_of = [&](uint32_t panel, uint32_t block) {
    return panels + panel * panel_units + static_cast<uint64_t>(block) * kTileUnits * kPanelColumns;
  };
  SumsInTiles in_tiles(scope);
  for (uint32_t block = 0; block < blocks; block += step) {
    const uint32_t count = blocks - block < step ? blocks - block : step;
    TileSums* kept = sums;
    for (uint32_t panel = panel_begin; panel < panel_end; ++panel) {
      const bool is_last = panel + 1 == panel_end && block + count < blocks;
      const uint32_t* const after =
          is_last ? blocks_of(panel_begin, block + count) : blocks_of(panel + 1, block);
      NextBlocks next =
          next_blocks(pairs == 1 ? blocks_of(panel, block) + kUnitsAhead : after, pairs);
      for (uint32_t row = row_begin; row < row_end; row += pair_rows, ++kept) {
        const TilePair pair = tile_pair(piece, row);
        const bool has_second = pair.shape.second_rows > 0;
        const uint32_t* first = rows + static_cast<uint64_t>(row) * piece.unit_count +
                                block * pair.shape.first_rows * kTileUnits;
        const uint32_t* second =
            rows + static_cast<uint64_t>(row + pair.shape.first_rows) * piece.unit_count +
            block * pair.shape.second_rows * kTileUnits;
        const uint32_t* b = blocks_of(panel, block);
        uint32_t left = count;
        if (block > 0 && in_tiles.can_exchange(pair.shape)) {
          in_tiles.exchange<Tiles>(*kept, first, second, b);
          first += pair.shape.first_rows * kTileUnits;
          second += pair.shape.second_rows * kTileUnits;
          b += kTileUnits * kPanelColumns;
          prefetch_block(next);
          --left;
        } else {
          in_tiles.store();
          scope.configure(pair.shape);
          if (block == 0) {
            clear_tiles(has_second);
          } else {
            load_sums(*kept, has_second);
          }
        }
        if (pairs > 1) {
          multiply_pair<Tiles, false>(first, second, pair.shape, b, left, next);
        } else {
          multiply_pair<Tiles, true>(first, second, pair.shape, b, left, next);
        }
        if (block + count < blocks) {
          in_tiles.hold(*kept);
        } else if (Tiles::kSumsAreResults && piece.bias == nullptr &&
                   (panel + 1) * kPanelColumns <= piece.out_columns) {
          store_tiles(piece, pair, panel);
        } else {
          store_sums(*kept, has_second);
          store_result<Tiles>(piece, pair, panel, *kept);
        }
      }
    }
  }
}

template <typename Tiles>
void tile_matmul(const MatmulPiece& piece) {
  TileSums sums[kPairsAtOnce * kTilePanelsAtOnce];
  TileScope scope;
  const uint32_t rows_at_once = kPairsAtOnce * 2 * piece.rows_per_tile;
  for (uint32_t panel = 0; panel < piece.panel_count; panel += kTilePanelsAtOnce) {
    const uint32_t left = piece.panel_count - panel;
    const uint32_t panel_end = panel + (left < kTilePanelsAtOnce ? left : kTilePanelsAtOnce);
    for (uint32_t row = 0; row < piece.row_count; row += rows_at_once) {
      const uint32_t rows_left = piece.row_count - row;
      multiply_panels<Tiles>(piece, row,
                             row + (rows_left < rows_at_once ? rows_left : rows_at_once), panel,
                             panel_end, scope, sums);
    }
  }
}

// [unit block][row][16 units]
void pack_bf16_tile(const RowsToPack& rows) {
  constexpr uint32_t columns = kTileUnits * Bf16Product::kUnitColumns;
  for (uint32_t row = 0; row < rows.row_count; ++row) {
    const float* x = rows.x + static_cast<uint64_t>(row) * rows.row_stride;
    uint32_t* to = static_cast<uint32_t*>(rows.out) + row * kTileUnits;
    uint32_t column = 0;
    for (; column + columns <= rows.column_count; column += columns) {
      Bf16Product::pack_lanes(x + column, to);
      to += rows.row_count * kTileUnits;
    }
    if (column == rows.column_count) continue;
    float rest[columns] = {};
    for (uint32_t i = 0; column + i < rows.column_count; ++i) rest[i] = x[column + i];
    Bf16Product::pack_lanes(rest, to);
  }
}

}  // namespace
}  // namespace trireme::worker
