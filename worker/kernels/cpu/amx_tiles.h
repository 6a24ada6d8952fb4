// AMX: two-dimensional registers ("tiles") of up to 16 rows of 64 bytes, and their products
// (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18). See vec.h
// for who may include it.
//
// Who multiplies what, as TileShape has it:
//            matmul                          scores of attention         values of attention
//   0 1      sums of the first rows:         chunks of positions         columns
//            left and right half of a panel
//   2 3      sums of the second rows         more chunks                 more columns
//   4 5      first and second rows           q: whole tiles, the rest    - and weights of a chunk
//   6 7      left and right half             K: whole tiles, the rest    - and V of a chunk
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
  uint32_t first_rows = 0;            // Of 0, 1 and 4.
  uint32_t second_rows = 0;           // Of 2, 3 and 5; 0: they are not used.
  uint32_t unit_count = kTileUnits;   // Along K, of 4 and 6.
  uint32_t other_units = kTileUnits;  // Along K, of 5 and 7; 0: they are not used.

  bool operator==(const TileShape&) const = default;
};

// gcc does not know that tiles, and their configuration, are loaded from memory: what was stored
// there must be there.
TRIREME_INLINE void finish_stores() { asm volatile("" ::: "memory"); }

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
    const auto set = [&config](uint32_t tile, uint32_t rows, uint32_t units) {
      const bool is_used = rows > 0 && units > 0;
      config.rows[tile] = static_cast<uint8_t>(is_used ? rows : 0);
      config.row_bytes[tile] = static_cast<uint16_t>(is_used ? 4 * units : 0);
    };
    for (uint32_t half = 0; half < 2; ++half) {
      set(half, shape.first_rows, kTileUnits);
      set(2 + half, shape.second_rows, kTileUnits);
    }
    set(4, shape.first_rows, shape.unit_count);
    set(5, shape.second_rows, shape.other_units);
    set(6, shape.unit_count, kTileUnits);
    set(7, shape.other_units, kTileUnits);
    finish_stores();
    _tile_loadconfig(&config);
  }

  [[nodiscard]] TRIREME_INLINE const TileShape& shape() const { return shape_; }

 private:
  TileShape shape_;
};

// The sums.
TRIREME_INLINE void clear_tiles(bool has_second) {
  _tile_zero(0);
  _tile_zero(1);
  if (!has_second) return;
  _tile_zero(2);
  _tile_zero(3);
}

}  // namespace
}  // namespace trireme::worker
