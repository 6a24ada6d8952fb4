// The product of int8 rows and int4 weights by tiles of AMX. See vec.h for who may include it,
// amx_tiles.h for the tiles and kernel_table.h for the forms.
//
// Some groups of a panel at a time are unpacked to bytes in the first-level cache, and all rows
// pass over them. A group's sum is exact; groups are scaled and added in order, by the same
// arithmetic as in integer_matmul_body.h.
#pragma once

#include "worker/kernels/cpu/amx_matmul_body.h"

namespace trireme::worker {
namespace {

// Of unpacked weights: 16 KiB.
inline constexpr uint32_t kUnpackedUnits = 128;

// [row][32 columns] of the rows that pass together.
struct GroupTotals {
  static constexpr uint32_t kRows = kRowsAtOnce;
  alignas(64) float values[kRows * kPanelColumns];
};

// Units of a packed row that lie side by side: a tile's, unless a group has fewer.
TRIREME_INLINE uint32_t int4_block_units(const MatmulPiece& piece) {
  return piece.group_units < kTileUnits ? piece.group_units : kTileUnits;
}

class Int4Panel {
 public:
  Int4Panel(const MatmulPiece& piece, uint32_t panel) : piece_(piece), panel_(panel) {}

  void unpack(uint32_t group_begin, uint32_t group_end) {
    constexpr uint32_t kLowHalf = 0x0f0f0f0fU;
    const uint64_t pairs_before =
        (static_cast<uint64_t>(panel_) * piece_.group_count + group_begin) * piece_.group_units / 2;
    const uint32_t* from =
        static_cast<const uint32_t*>(piece_.panels) + pairs_before * kPanelColumns;
    uint32_t* to = units_;
    const uint32_t pair_count = (group_end - group_begin) * piece_.group_units / 2;
    for (uint32_t pair = 0; pair < pair_count; ++pair) {
      for (uint32_t half = 0; half < kPanelColumns; half += kLanes) {
        const VecBits both = load_bits(from + half);
        store_bits(to + half, both & kLowHalf);
        store_bits(to + kPanelColumns + half, (both >> 4) & kLowHalf);
        // The groups unpacked next.
        _mm_prefetch(from + half + kUnpackedUnits / 2 * kPanelColumns, _MM_HINT_T0);
      }
      from += kPanelColumns;
      to += 2 * kPanelColumns;
    }
    finish_stores();
  }

  // The sums of a group, of those that are unpacked the index-th, for a pair of row tiles.
  TRIREME_INLINE void multiply(uint32_t group, uint32_t index, const TilePair& pair,
                               TileSums& sums) const {
    const TileShape& shape = pair.shape;
    const auto* rows = static_cast<const uint32_t*>(piece_.rows);
    const uint64_t unit = static_cast<uint64_t>(group) * piece_.group_units;
    const uint32_t* first =
        rows + static_cast<uint64_t>(pair.row) * piece_.unit_count + unit * shape.first_rows;
    const uint32_t* second =
        rows + static_cast<uint64_t>(pair.row + shape.first_rows) * piece_.unit_count +
        unit * shape.second_rows;
    const uint32_t* panel = units_ + index * piece_.group_units * kPanelColumns;
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
  alignas(64) uint32_t units_[kUnpackedUnits * kPanelColumns];
};

void multiply_int4_rows(const MatmulPiece& piece, uint32_t panel_index, uint32_t row_begin,
                        uint32_t row_end, TileScope& scope) {
  GroupTotals totals;
  TileSums sums;
  Int4Panel panel(piece, panel_index);
  for (uint32_t i = 0; i < (row_end - row_begin) * kPanelColumns; ++i) totals.values[i] = 0.0F;
  const uint32_t groups_at_once = kUnpackedUnits / piece.group_units;
  const uint32_t block_units = int4_block_units(piece);
  for (uint32_t begin = 0; begin < piece.group_count; begin += groups_at_once) {
    const uint32_t left = piece.group_count - begin;
    const uint32_t end = begin + (left < groups_at_once ? left : groups_at_once);
    panel.unpack(begin, end);
    for (uint32_t row = row_begin; row < row_end; row += 2 * piece.rows_per_tile) {
      TilePair pair = tile_pair(piece, row);
      pair.shape.unit_count = block_units;
      pair.shape.other_units = block_units;
      scope.configure(pair.shape);
      float* const pair_totals = totals.values + (row - row_begin) * kPanelColumns;
      for (uint32_t group = begin; group < end; ++group) {
        panel.multiply(group, group - begin, pair, sums);
        panel.add(group, pair, sums, pair_totals);
      }
    }
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
