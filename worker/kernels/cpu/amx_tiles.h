// AMX: two-dimensional registers ("tiles") of up to 16 rows of 64 bytes, and their products
// (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18). See vec.h
// for who may include it.
//
// A product of rows and a panel takes these tiles; all stay configured while a TileScope lives:
//   0 1   sums of the first tile of rows: left and right half of the panel
//   2 3   sums of the second tile of rows
//   4 5   rows: first and second tile
//   6 7   the panel: left and right half
//
// tdpbf16ps adds, for each element, the products of even and of odd columns along the 32 columns of
// a tile in two chains, then both to the sum, subnormal numbers being zeros: an order that depends
// on nothing but the columns. tdpbsud adds exactly.
#pragma once

#include <immintrin.h>

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

inline constexpr uint32_t kTileRowsMax = 16;
inline constexpr uint32_t kTileRowBytes = 64;
inline constexpr uint32_t kTileUnits = kTileRowBytes / 4;  // Along K.

struct TileShape {
  uint32_t first_rows = 0;
  uint32_t second_rows = 0;  // 0: only the first tile of rows.
  uint32_t unit_count = kTileUnits;

  bool operator==(const TileShape&) const = default;
};

// Tiles belong to a thread; they cost the kernel a copy at each switch until they are released.
class TileScope {
 public:
  TileScope() = default;
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

  TRIREME_INLINE void configure(const TileShape& shape) {
    if (shape == shape_) return;
    shape_ = shape;
    struct alignas(64) {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    const auto set = [&config](uint32_t tile, uint32_t rows, uint32_t row_bytes) {
      config.rows[tile] = static_cast<uint8_t>(rows);
      config.row_bytes[tile] = static_cast<uint16_t>(rows == 0 ? 0 : row_bytes);
    };
    for (uint32_t half = 0; half < 2; ++half) {
      set(half, shape.first_rows, kTileRowBytes);
      set(2 + half, shape.second_rows, kTileRowBytes);
      set(6 + half, shape.unit_count, kTileRowBytes);
    }
    set(4, shape.first_rows, 4 * shape.unit_count);
    set(5, shape.second_rows, 4 * shape.unit_count);
    _tile_loadconfig(&config);
  }

 private:
  TileShape shape_;
};

// gcc does not know that a tile is loaded from memory: what was stored there must be there.
TRIREME_INLINE void finish_stores() { asm volatile("" ::: "memory"); }

}  // namespace
}  // namespace trireme::worker
