// The tiles of the int8 and int4 products. See vec.h for who may include it, kernel_table.h for the
// forms and matmul_body.h for how tiles are run.
//
// int8: the sum along K is exact in int32, scaled once. int4: it is exact within a group; the
// groups are scaled and added in order, in fp32. So a row's bits do not depend on its tile here
// either.
#pragma once

#include "worker/kernels/cpu/integer_product_body.h"
#include "worker/kernels/cpu/matmul_body.h"

namespace trireme::worker {
namespace {

using cpu::RowScale;

// Those of the tile whose packed rows begin at `a`.
TRIREME_INLINE const RowScale* row_scales_of(const MatmulPiece& piece, const uint32_t* a) {
  const auto unit = static_cast<uint64_t>(a - static_cast<const uint32_t*>(piece.rows));
  return piece.row_scales + unit / piece.unit_count * piece.group_count;
}

TRIREME_INLINE void store_panel(const MatmulPiece& piece, uint32_t panel, float* row, Vec left,
                                Vec right) {
  const uint32_t column = panel * kPanelColumns;
  if (piece.bias != nullptr) {
    left += load(piece.bias + column);
    right += load(piece.bias + column + kLanes);
  }
  store_columns(row + column, piece.out_columns - column, left, right);
}

struct Int8Product {
  using Unit = uint32_t;
  static constexpr bool kHasOwnTile = true;

  template <uint32_t row_count, uint32_t panel_count>
  static void multiply_tile(const MatmulPiece& piece, const Unit* a, uint32_t panel, float* out) {
    const uint64_t panel_units = static_cast<uint64_t>(piece.unit_count) * kPanelColumns;
    const Unit* b = static_cast<const Unit*>(piece.panels) + panel * panel_units;
    const RowScale* rows = row_scales_of(piece, a);
    VecInt sums[row_count][panel_count * 2] = {};
    for (uint32_t begin = 0; begin < piece.unit_count; begin += HalfBlocks::kUnits) {
      for (uint32_t unit = 0; unit < HalfBlocks::kUnits; ++unit) {
#pragma GCC unroll 8
        for (uint32_t p = 0; p < panel_count; ++p) {
          const VecBits left = load_bits(b + p * panel_units);
          const VecBits right = load_bits(b + p * panel_units + HalfBlocks::kRight);
          prefetch_panel<HalfBlocks>(b + p * panel_units);
#pragma GCC unroll 12
          for (uint32_t row = 0; row < row_count; ++row) {
            sums[row][2 * p] = add_int8_products(sums[row][2 * p], a[row], left);
            sums[row][2 * p + 1] = add_int8_products(sums[row][2 * p + 1], a[row], right);
          }
        }
        a += row_count;
        b += HalfBlocks::kUnitStep;
      }
      b += HalfBlocks::kSkip;
    }
#pragma GCC unroll 12
    for (uint32_t row = 0; row < row_count; ++row) {
#pragma GCC unroll 8
      for (uint32_t p = 0; p < panel_count; ++p) {
        const float* scales = piece.column_scales + (panel + p) * kPanelColumns;
        const Vec left = scaled(sums[row][2 * p], rows[row], scales);
        const Vec right = scaled(sums[row][2 * p + 1], rows[row], scales + kLanes);
        store_panel(piece, panel + p, out + static_cast<uint64_t>(row) * piece.out_stride, left,
                    right);
      }
    }
  }

  static TRIREME_INLINE Vec scaled(VecInt sum, const RowScale& row, const float* scales) {
    const Vec exact = to_floats(sum - kInt8Zero * row.sum);
    return exact * (load(scales) * splat(row.scale));
  }
};

// The packed rows of a tile, two units at a time: [unit][row].
template <uint32_t row_count>
struct UnitsByRow {
  UnitsByRow(const MatmulPiece&, const uint32_t* rows) : units(rows) {}
  [[nodiscard]] TRIREME_INLINE uint32_t first(uint32_t row) const { return units[row]; }
  [[nodiscard]] TRIREME_INLINE uint32_t second(uint32_t row) const {
    return units[row_count + row];
  }
  TRIREME_INLINE void advance() { units += 2 * row_count; }

  const uint32_t* units;
};

template <template <uint32_t> typename Units>
struct Int4ProductOf {
  using Unit = uint32_t;
  static constexpr uint32_t kLowHalf = 0x0f0f0f0fU;
  static constexpr bool kHasOwnTile = true;

  template <uint32_t row_count, uint32_t panel_count>
  static void multiply_tile(const MatmulPiece& piece, const Unit* a, uint32_t panel, float* out) {
    const uint64_t panel_units = static_cast<uint64_t>(piece.unit_count) / 2 * kPanelColumns;
    const Unit* b = static_cast<const Unit*>(piece.panels) + panel * panel_units;
    const RowScale* rows = row_scales_of(piece, a);
    Units<row_count> units(piece, a);
    Vec totals[row_count][panel_count * 2] = {};
    for (uint32_t group = 0; group < piece.group_count; ++group) {
      VecInt sums[row_count][panel_count * 2] = {};
      for (uint32_t pair = 0; pair < piece.group_units / 2; ++pair) {
#pragma GCC unroll 8
        for (uint32_t p = 0; p < panel_count; ++p) {
          const VecBits left = load_bits(b + p * panel_units);
          const VecBits right = load_bits(b + p * panel_units + kLanes);
          prefetch_panel<WholeRows>(b + p * panel_units);
          const VecBits low_left = left & kLowHalf;
          const VecBits low_right = right & kLowHalf;
          const VecBits high_left = (left >> 4) & kLowHalf;
          const VecBits high_right = (right >> 4) & kLowHalf;
#pragma GCC unroll 12
          for (uint32_t row = 0; row < row_count; ++row) {
            VecInt& left_sum = sums[row][2 * p];
            VecInt& right_sum = sums[row][2 * p + 1];
            left_sum = add_products(left_sum, units.first(row), low_left);
            right_sum = add_products(right_sum, units.first(row), low_right);
            left_sum = add_products(left_sum, units.second(row), high_left);
            right_sum = add_products(right_sum, units.second(row), high_right);
          }
        }
        units.advance();
        b += kPanelColumns;
      }
#pragma GCC unroll 8
      for (uint32_t half = 0; half < panel_count * 2; ++half) {
        const uint64_t at =
            ((static_cast<uint64_t>(panel) + half / 2) * piece.group_count + group) *
                kPanelColumns +
            half % 2 * kLanes;
        const Vec scales = from_fp16(piece.group_scales + at);
        const Vec zeros =
            piece.group_zeros == nullptr ? splat(8.0F) : to_floats(widen(piece.group_zeros + at));
#pragma GCC unroll 12
        for (uint32_t row = 0; row < row_count; ++row) {
          const Vec sum = to_floats(sums[row][half]);
          // Whole numbers below 2^24: exact.
          const Vec centred = sum - zeros * splat(static_cast<float>(rows[row].sum));
          totals[row][half] += centred * (scales * splat(rows[row].scale * piece.scale_unit));
        }
      }
      rows += row_count;
    }
#pragma GCC unroll 12
    for (uint32_t row = 0; row < row_count; ++row) {
#pragma GCC unroll 8
      for (uint32_t p = 0; p < panel_count; ++p) {
        store_panel(piece, panel + p, out + static_cast<uint64_t>(row) * piece.out_stride,
                    totals[row][2 * p], totals[row][2 * p + 1]);
      }
    }
  }
};

using Int4Product = Int4ProductOf<UnitsByRow>;

}  // namespace
}  // namespace trireme::worker
