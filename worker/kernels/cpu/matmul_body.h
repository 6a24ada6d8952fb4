// The matrix product. See vec.h for who may include it and kernel_table.h for the forms.
//
// Each output element is one accumulator that runs along the whole of K, in every tile shape: that
// is why a row's bits are the same alone and among 500 others.
#pragma once

#include <type_traits>

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/product_body.h"
#ifdef __AVX512F__
#include "worker/kernels/cpu/transpose_body.h"
#endif

namespace trireme::worker {
namespace {

using cpu::kHalfBlockUnits;
using cpu::kPanelColumns;
using cpu::kUnitsPerBlock;
using cpu::MatmulPiece;
using cpu::RowsToPack;

#ifdef __AVX512F__
// Packs all but the last 16 units and gives the number of columns done. A store of 16 units writes
// over those that come next; the next store puts them right.
template <typename Product>
uint32_t pack_blocks(const RowsToPack& rows) {
  using Unit = typename Product::Unit;
  constexpr uint32_t block = kLanes * Product::kUnitColumns;
  uint32_t column = 0;
  for (; column + 2 * block <= rows.column_count; column += block) {
    alignas(64) VecBits units[kLanes] = {};
    for (uint32_t row = 0; row < rows.row_count; ++row) {
      Product::pack_lanes(rows.x + static_cast<uint64_t>(row) * rows.row_stride + column,
                          reinterpret_cast<Unit*>(&units[row]));
    }
    transpose(units);
    auto* to = static_cast<uint32_t*>(rows.out) +
               static_cast<uint64_t>(column / Product::kUnitColumns) * rows.row_count;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < kLanes; ++i) {
      store_bits(to + static_cast<uint64_t>(i) * rows.row_count, units[i]);
    }
  }
  return column;
}
#endif

template <typename Product>
void pack_rows(const RowsToPack& rows) {
  using Unit = typename Product::Unit;
  constexpr uint32_t step = Product::kUnitColumns;
  const uint32_t stride = rows.row_count;
  const uint32_t whole = rows.column_count - rows.column_count % (kLanes * step);
  uint32_t begin = 0;
#ifdef __AVX512F__
  // With fewer rows most of a transposition would be for nothing.
  if (rows.row_count >= 4) begin = pack_blocks<Product>(rows);
#endif
  for (uint32_t row = 0; row < rows.row_count; ++row) {
    const float* x = rows.x + static_cast<uint64_t>(row) * rows.row_stride;
    Unit* to = static_cast<Unit*>(rows.out) + row + static_cast<uint64_t>(begin / step) * stride;
    for (uint32_t column = begin; column < whole; column += kLanes * step) {
      Unit units[kLanes];
      Product::pack_lanes(x + column, units);
#pragma GCC unroll 16
      for (uint32_t i = 0; i < kLanes; ++i) to[i * stride] = units[i];
      to += kLanes * stride;
    }
    uint32_t column = whole;
    for (; column < rows.column_count; column += step) {
      *to = Product::pack(x + column, rows.column_count - column);
      to += stride;
    }
    for (; column < rows.unit_count * step; column += step) {
      *to = {};
      to += stride;
    }
  }
}

TRIREME_INLINE void store_columns(float* out, uint32_t column_count, Vec left, Vec right) {
  if (column_count >= kPanelColumns) {
    store(out, left);
    store(out + kLanes, right);
    return;
  }
  store_part(out, left, column_count < kLanes ? column_count : kLanes);
  if (column_count > kLanes) store_part(out + kLanes, right, column_count - kLanes);
}

// How a product walks along a panel: what is between a unit's two halves, how many units follow
// each other at half a panel's distance, and what comes after so many.
struct WholeRows {  // fp32, int4
  static constexpr uint32_t kRight = kLanes;
  static constexpr uint32_t kUnits = 1;
  static constexpr uint32_t kUnitStep = kPanelColumns;
  static constexpr uint32_t kSkip = 0;
};
struct HalfBlocks {  // bf16, int8
  static constexpr uint32_t kRight = kHalfBlockUnits;
  static constexpr uint32_t kUnits = kUnitsPerBlock;
  static constexpr uint32_t kUnitStep = kLanes;
  static constexpr uint32_t kSkip = kHalfBlockUnits;
};

// What a panel has 2 KiB further on. The hardware's own prefetching stops at the end of a page, and
// several panels at once are as many streams: without this, one row waits a quarter of its time.
template <typename Walk>
TRIREME_INLINE void prefetch_panel(const void* units) {
  const char* const ahead = static_cast<const char*>(units) + 2048;
  __builtin_prefetch(ahead);
  __builtin_prefetch(ahead + sizeof(uint32_t) * Walk::kRight);
}

// row_count rows of one tile times panel_count panels. The loops over both unroll.
template <typename Product, uint32_t row_count, uint32_t panel_count>
void multiply_tile(const MatmulPiece& piece, const typename Product::Unit* a, uint32_t panel,
                   float* out) {
  using Unit = typename Product::Unit;
  using Walk = std::conditional_t<Product::kUnitColumns == 1, WholeRows, HalfBlocks>;
  const uint64_t panel_units = static_cast<uint64_t>(piece.unit_count) * kPanelColumns;
  const Unit* b = static_cast<const Unit*>(piece.panels) + panel * panel_units;
  Vec sums[row_count][panel_count * 2] = {};
  for (uint32_t begin = 0; begin < piece.unit_count; begin += Walk::kUnits) {
    for (uint32_t unit = 0; unit < Walk::kUnits; ++unit) {
#pragma GCC unroll 8
      for (uint32_t p = 0; p < panel_count; ++p) {
        prefetch_panel<Walk>(b + p * panel_units);
#pragma GCC unroll 12
        for (uint32_t row = 0; row < row_count; ++row) {
          const Unit* columns = b + p * panel_units;
          sums[row][2 * p] = Product::multiply_add(sums[row][2 * p], a[row], columns);
          sums[row][2 * p + 1] =
              Product::multiply_add(sums[row][2 * p + 1], a[row], columns + Walk::kRight);
        }
      }
      a += row_count;
      b += Walk::kUnitStep;
    }
    b += Walk::kSkip;
  }
#pragma GCC unroll 12
  for (uint32_t row = 0; row < row_count; ++row) {
#pragma GCC unroll 8
    for (uint32_t p = 0; p < panel_count; ++p) {
      const uint32_t column = (panel + p) * kPanelColumns;
      Vec left = sums[row][2 * p];
      Vec right = sums[row][2 * p + 1];
      if (piece.bias != nullptr) {
        left += load(piece.bias + column);
        right += load(piece.bias + column + kLanes);
      }
      store_columns(out + static_cast<uint64_t>(row) * piece.out_stride + column,
                    piece.out_columns - column, left, right);
    }
  }
}

// Some products bring their own tile.
template <typename Product, uint32_t row_count, uint32_t panel_count>
TRIREME_INLINE void multiply_tile_of(const MatmulPiece& piece, const typename Product::Unit* a,
                                     uint32_t panel, float* out) {
  if constexpr (requires { Product::kHasOwnTile; }) {
    Product::template multiply_tile<row_count, panel_count>(piece, a, panel, out);
  } else {
    multiply_tile<Product, row_count, panel_count>(piece, a, panel, out);
  }
}

// With few rows several panels go at once, as many as leave registers for the operands: one alone
// would leave the CPU waiting for its two chains of additions.
inline constexpr uint32_t kSumsMax = kRegisterCount * 3 / 4 / Vec::kParts;
template <uint32_t row_count>
inline constexpr uint32_t kPanelsAtOnce = 8 * row_count <= kSumsMax   ? 4
                                          : 4 * row_count <= kSumsMax ? 2
                                                                      : 1;

template <typename Product, uint32_t row_count>
void multiply_rows(const MatmulPiece& piece, const typename Product::Unit* a, uint32_t panel_begin,
                   uint32_t panel_end, float* out) {
  constexpr uint32_t at_once = kPanelsAtOnce<row_count>;
  uint32_t panel = panel_begin;
  for (; panel + at_once <= panel_end; panel += at_once) {
    multiply_tile_of<Product, row_count, at_once>(piece, a, panel, out);
  }
  if constexpr (at_once > 2) {
    for (; panel + 2 <= panel_end; panel += 2) {
      multiply_tile_of<Product, row_count, 2>(piece, a, panel, out);
    }
  }
  for (; panel < panel_end; ++panel) multiply_tile_of<Product, row_count, 1>(piece, a, panel, out);
}

template <typename Product, uint32_t row_count>
void multiply_up_to(const MatmulPiece& piece, uint32_t rows, const typename Product::Unit* a,
                    uint32_t panel_begin, uint32_t panel_end, float* out) {
  if constexpr (row_count > 1) {
    if (rows < row_count) {
      return multiply_up_to<Product, row_count - 1>(piece, rows, a, panel_begin, panel_end, out);
    }
  }
  multiply_rows<Product, row_count>(piece, a, panel_begin, panel_end, out);
}

template <typename Product, uint32_t row_tile>
void matmul(const MatmulPiece& piece) {
  using Unit = typename Product::Unit;
  // One tile of rows: panels may go several at once. More: a panel stays in the cache while all
  // tiles pass over it.
  const uint32_t step = piece.row_count <= piece.rows_per_tile ? piece.panel_count : 1;
  for (uint32_t panel = 0; panel < piece.panel_count; panel += step) {
    for (uint32_t row = 0; row < piece.row_count; row += piece.rows_per_tile) {
      const uint32_t left = piece.row_count - row;
      const uint32_t rows = left < piece.rows_per_tile ? left : piece.rows_per_tile;
      const Unit* a =
          static_cast<const Unit*>(piece.rows) + static_cast<uint64_t>(row) * piece.unit_count;
      multiply_up_to<Product, row_tile>(piece, rows, a, panel, panel + step,
                                        piece.out + static_cast<uint64_t>(row) * piece.out_stride);
    }
  }
}

}  // namespace
}  // namespace trireme::worker
