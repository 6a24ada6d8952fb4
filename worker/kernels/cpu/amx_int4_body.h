// The product of int8 rows and int4 weights by tiles of AMX. See vec.h for who may include it,
// amx_tiles.h for the tiles and kernel_table.h for the forms.
//
// Some groups of a panel at a time, a portion, are unpacked to bytes in the first-level cache, and
// all rows pass over them. While the tiles multiply one portion the vector units unpack the next,
// and add the group before: each of the three alone would wait for the others. A group's sum is
// exact; groups are scaled and added in order, by the same arithmetic as in integer_matmul_body.h.
#pragma once

#include "worker/kernels/cpu/amx_matmul_body.h"

namespace trireme::worker {
namespace {

// Of unpacked weights: 4 KiB, unless a group has more, 16 KiB at most.
inline constexpr uint32_t kPortionUnits = 32;
inline constexpr uint32_t kPortionUnitsMax = 128;

// [row][32 columns] of the rows that pass together.
struct GroupTotals {
  static constexpr uint32_t kRows = kRowsAtOnce;
  alignas(64) float values[kRows * kPanelColumns];
};

// Units of a packed row that lie side by side: a tile's, unless a group has fewer.
TRIREME_INLINE uint32_t int4_block_units(const MatmulPiece& piece) {
  return piece.group_units < kTileUnits ? piece.group_units : kTileUnits;
}

// What is left to be unpacked of a portion.
struct Int4Unpacking {
  const uint32_t* from = nullptr;
  uint32_t* to = nullptr;
  uint32_t pairs_left = 0;  // Of units.

  TRIREME_INLINE void advance(uint32_t pairs) {
    constexpr uint32_t kLowHalf = 0x0f0f0f0fU;
    constexpr uint32_t kAhead = 1024;  // 4 KiB.
    if (pairs > pairs_left) pairs = pairs_left;
    pairs_left -= pairs;
    for (; pairs > 0; --pairs) {
#pragma GCC unroll 2
      for (uint32_t half = 0; half < kPanelColumns; half += kLanes) {
        const VecBits both = load_bits(from + half);
        store_bits(to + half, both & kLowHalf);
        store_bits(to + kPanelColumns + half, (both >> 4) & kLowHalf);
        _mm_prefetch(from + half + kAhead, _MM_HINT_T1);
      }
      from += kPanelColumns;
      to += 2 * kPanelColumns;
    }
  }
};

class Int4Panel {
 public:
  Int4Panel(const MatmulPiece& piece, uint32_t panel) : piece_(piece), panel_(panel) {}

  [[nodiscard]] Int4Unpacking unpacking(uint32_t group_begin, uint32_t group_end,
                                        uint32_t portion) {
    const uint32_t group_pairs = piece_.group_units / 2;
    const uint64_t pairs_before =
        (static_cast<uint64_t>(panel_) * piece_.group_count + group_begin) * group_pairs;
    return {.from = static_cast<const uint32_t*>(piece_.panels) + pairs_before * kPanelColumns,
            .to = units_[portion],
            .pairs_left = (group_end - group_begin) * group_pairs};
  }

  // The sums of a group, the index-th of a portion, for a pair of row tiles. Meanwhile as many
  // units of the next portion are unpacked.
  TRIREME_INLINE void multiply(uint32_t group, uint32_t portion, uint32_t index,
                               const TilePair& pair, TileSums& sums, Int4Unpacking& next) const {
    const TileShape& shape = pair.shape;
    const auto* rows = static_cast<const uint32_t*>(piece_.rows);
    const uint64_t unit = static_cast<uint64_t>(group) * piece_.group_units;
    const uint32_t* first =
        rows + static_cast<uint64_t>(pair.row) * piece_.unit_count + unit * shape.first_rows;
    const uint32_t* second =
        rows + static_cast<uint64_t>(pair.row + shape.first_rows) * piece_.unit_count +
        unit * shape.second_rows;
    const uint32_t* panel = units_[portion] + index * piece_.group_units * kPanelColumns;
    const uint32_t row_bytes = 4 * shape.unit_count;
    const bool has_second = shape.second_rows > 0;
    clear_tiles(has_second);
    for (uint32_t done = 0; done < piece_.group_units; done += shape.unit_count) {
      _tile_loadd(6, panel, 2 * kTileRowBytes);
      _tile_loadd(7, panel + kTileUnits, 2 * kTileRowBytes);
      _tile_loadd(4, first, row_bytes);
      Int8Tiles::multiply_first_left();
      Int8Tiles::multiply_first_right();
      if (has_second) {
        _tile_loadd(5, second, row_bytes);
        Int8Tiles::multiply_second_left();
        Int8Tiles::multiply_second_right();
      }
      next.advance(shape.unit_count / 2);
      first += shape.first_rows * shape.unit_count;
      second += shape.second_rows * shape.unit_count;
      panel += shape.unit_count * kPanelColumns;
    }
    store_sums(sums, has_second);
  }

  TRIREME_INLINE void add(uint32_t group, const TilePair& pair, const TileSums& sums,
                          float* totals) const {
    const uint64_t at =
        (static_cast<uint64_t>(panel_) * piece_.group_count + group) * kPanelColumns;
    Vec scales[2];
    Vec zeros[2];
    for (uint32_t half = 0; half < 2; ++half) {
      scales[half] = from_fp16(piece_.group_scales + at + half * kLanes);
      zeros[half] = piece_.group_zeros == nullptr
                        ? splat(8.0F)
                        : to_floats(widen(piece_.group_zeros + at + half * kLanes));
    }
    for (uint32_t tile = 0; tile < 2; ++tile) {
      const uint32_t row_count = tile == 0 ? pair.shape.first_rows : pair.shape.second_rows;
      const uint32_t row = pair.row + tile * pair.shape.first_rows;
      const RowScale* rows = piece_.row_scales + static_cast<uint64_t>(row) * piece_.group_count +
                             static_cast<uint64_t>(group) * row_count;
      for (uint32_t i = 0; i < row_count; ++i) {
        const Vec row_sum = splat(static_cast<float>(rows[i].sum));
        const Vec row_scale = splat(rows[i].scale * piece_.scale_unit);
        for (uint32_t half = 0; half < 2; ++half) {
          const Vec sum = to_floats(bits_as<VecInt>(load_bits(sums.row(tile, i, half))));
          const Vec centred = sum - zeros[half] * row_sum;
          float* total = totals + i * kPanelColumns + half * kLanes;
          store(total, load(total) + centred * (scales[half] * row_scale));
        }
      }
      totals += row_count * kPanelColumns;
    }
  }

 private:
  const MatmulPiece& piece_;
  const uint32_t panel_;
  alignas(64) uint32_t units_[2][kPortionUnitsMax * kPanelColumns];
};

void multiply_int4_rows(const MatmulPiece& piece, uint32_t panel_index, uint32_t row_begin,
                        uint32_t row_end, TileScope& scope) {
  GroupTotals totals;
  TileSums sums[2];
  Int4Panel panel(piece, panel_index);
  for (uint32_t i = 0; i < (row_end - row_begin) * kPanelColumns; ++i) totals.values[i] = 0.0F;
  const uint32_t groups_at_once =
      piece.group_units < kPortionUnits ? kPortionUnits / piece.group_units : 1;
  const auto end_of = [&](uint32_t begin) {
    const uint32_t left = piece.group_count - begin;
    return begin + (left < groups_at_once ? left : groups_at_once);
  };
  const uint32_t block_units = int4_block_units(piece);
  uint32_t portion = 0;
  Int4Unpacking next = panel.unpacking(0, end_of(0), portion);
  for (uint32_t begin = 0; begin < piece.group_count; begin = end_of(begin)) {
    const uint32_t end = end_of(begin);
    next.advance(next.pairs_left);
    finish_stores();
    next = panel.unpacking(end, end_of(end), 1 - portion);
    for (uint32_t row = row_begin; row < row_end; row += 2 * piece.rows_per_tile) {
      TilePair pair = tile_pair(piece, row);
      pair.shape.unit_count = block_units;
      pair.shape.other_units = block_units;
      scope.configure(pair.shape);
      float* const pair_totals = totals.values + (row - row_begin) * kPanelColumns;
      for (uint32_t group = begin; group < end; ++group) {
        panel.multiply(group, portion, group - begin, pair, sums[group % 2], next);
        if (group > begin) panel.add(group - 1, pair, sums[(group - 1) % 2], pair_totals);
      }
      panel.add(end - 1, pair, sums[(end - 1) % 2], pair_totals);
    }
    portion = 1 - portion;
  }
  for (uint32_t row = row_begin; row < row_end; ++row) {
    const float* total = totals.values + (row - row_begin) * kPanelColumns;
    store_panel(piece, panel_index, piece.out + static_cast<uint64_t>(row) * piece.out_stride,
                load(total), load(total + kLanes));
  }
}

// The same as UnitsByRow, of rows packed for tiles: [unit block][row][unit].
template <uint32_t row_count>
struct UnitsByBlock {
  UnitsByBlock(const MatmulPiece& piece, const uint32_t* rows)
      : units(rows), block_units(int4_block_units(piece)), left(block_units) {}
  [[nodiscard]] TRIREME_INLINE uint32_t first(uint32_t row) const {
    return units[row * block_units];
  }
  [[nodiscard]] TRIREME_INLINE uint32_t second(uint32_t row) const {
    return units[row * block_units + 1];
  }
  TRIREME_INLINE void advance() {
    units += 2;
    left -= 2;
    if (left > 0) return;
    units += (row_count - 1) * block_units;
    left = block_units;
  }

  const uint32_t* units;
  uint32_t block_units;
  uint32_t left;  // Of the block.
};

// Up to vector_rows rows have the same bits by vectors, sooner: no bytes are unpacked first.
template <uint32_t vector_rows>
void tile_matmul_int4(const MatmulPiece& piece) {
  if (piece.row_count <= vector_rows)
    return matmul<Int4ProductOf<UnitsByBlock>, vector_rows>(piece);
  TileScope scope;
  const uint32_t rows_at_once = kPairsAtOnce * 2 * piece.rows_per_tile;
  for (uint32_t panel = 0; panel < piece.panel_count; ++panel) {
    for (uint32_t row = 0; row < piece.row_count; row += rows_at_once) {
      const uint32_t left = piece.row_count - row;
      multiply_int4_rows(piece, panel, row, row + (left < rows_at_once ? left : rows_at_once),
                         scope);
    }
  }
}

}  // namespace
}  // namespace trireme::worker
