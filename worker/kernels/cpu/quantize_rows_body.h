// Rows of activations as int8 codes with a scale for each group of columns: value = code · scale,
// the largest magnitude of a group being 127. See vec.h for who may include it and kernel_table.h
// for the form. A group's codes depend on its own values alone.
#pragma once

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

using cpu::RowScale;
using cpu::RowsToPack;

inline constexpr uint32_t kCodesPerUnit = 4;

// Infinity and NaN are larger than all numbers.
TRIREME_INLINE uint32_t largest_magnitude(const float* x, uint32_t count) {
  VecInt largest = {};
  const auto take = [&largest](const Vec& values) {
    const VecInt bits = bits_as<VecInt>(values) & 0x7fffffff;
    largest = select(bits > largest, bits, largest);
  };
  uint32_t column = 0;
  for (; column + kLanes <= count; column += kLanes) take(load(x + column));
  if (column < count) take(load_part(x + column, count - column, 0.0F));
  int32_t best = 0;
  for (uint32_t i = 0; i < kLanes; ++i) best = largest[i] > best ? largest[i] : best;
  return static_cast<uint32_t>(best);
}

// The nearest whole numbers, halves to even; for magnitudes below 2^22.
TRIREME_INLINE VecInt to_nearest(const Vec& x) {
  return bits_as<VecInt>(x + kRoundingMagic) - __builtin_bit_cast(int32_t, kRoundingMagic);
}

// Where the units of one row of a tile lie.
class UnitMajorRows {  // [unit][row]
 public:
  UnitMajorRows(const RowsToPack& rows, uint32_t row)
      : to_(static_cast<uint32_t*>(rows.out) + row), row_count_(rows.row_count) {}
  [[nodiscard]] TRIREME_INLINE uint32_t& unit(uint32_t index) const {
    return to_[static_cast<uint64_t>(index) * row_count_];
  }

 private:
  uint32_t* to_;
  uint32_t row_count_;
};

class TiledRows {  // [unit block][row][unit in the block]
 public:
  TiledRows(const RowsToPack& rows, uint32_t row)
      : block_units_(rows.group_units < cpu::kUnitsPerBlock ? rows.group_units
                                                            : cpu::kUnitsPerBlock),
        to_(static_cast<uint32_t*>(rows.out) + row * block_units_),
        row_count_(rows.row_count) {}
  [[nodiscard]] TRIREME_INLINE uint32_t& unit(uint32_t index) const {
    return to_[static_cast<uint64_t>(index / block_units_) * block_units_ * row_count_ +
               index % block_units_];
  }

 private:
  uint32_t block_units_;
  uint32_t* to_;
  uint32_t row_count_;
};

// unit_count units from unit_begin on.
template <typename Rows>
TRIREME_INLINE RowScale quantize_group(const float* x, uint32_t count, uint32_t unit_begin,
                                       uint32_t unit_count, const Rows& to) {
  constexpr uint32_t kInfinity = 0x7f800000U;
  constexpr float kCodeMax = 127.0F;
  constexpr float kTiny = 1e-30F;  // Less counts as zero: its inverse would be infinite.
  const uint32_t bits = largest_magnitude(x, count);
  const float largest = __builtin_bit_cast(float, bits);
  const bool is_number = bits < kInfinity;
  const bool has_codes = is_number && largest > kTiny;
  const Vec inverse = splat(has_codes ? kCodeMax / largest : 0.0F);
  VecInt sums = {};
  for (uint32_t unit = 0; unit < unit_count; unit += kLanes / kCodesPerUnit) {
    const uint32_t column = unit * kCodesPerUnit;
    uint32_t units[kLanes / kCodesPerUnit] = {};
    if (has_codes && column < count) {
      const Vec values =
          column + kLanes <= count ? load(x + column) : load_part(x + column, count - column, 0.0F);
      const VecInt wide = to_nearest(values * inverse);
      sums += wide;
      store_bytes(units, wide);
    }
    const uint32_t left = unit_count - unit;
    const uint32_t here = left < kLanes / kCodesPerUnit ? left : kLanes / kCodesPerUnit;
    for (uint32_t i = 0; i < here; ++i) to.unit(unit_begin + unit + i) = units[i];
  }
  int32_t sum = 0;
  for (uint32_t i = 0; i < kLanes; ++i) sum += sums[i];
  const float nan = __builtin_nanf("");
  return {is_number ? (has_codes ? largest / kCodeMax : 0.0F) : nan, sum};
}

template <typename Rows>
void quantize_rows(const RowsToPack& rows) {
  const uint32_t group_columns = rows.group_units * kCodesPerUnit;
  for (uint32_t row = 0; row < rows.row_count; ++row) {
    const float* x = rows.x + static_cast<uint64_t>(row) * rows.row_stride;
    const Rows to(rows, row);
    for (uint32_t group = 0; group < rows.group_count; ++group) {
      const uint32_t begin = group * group_columns;
      const uint32_t left = rows.column_count > begin ? rows.column_count - begin : 0;
      rows.scales[group * rows.row_count + row] =
          quantize_group(x + begin, left < group_columns ? left : group_columns,
                         group * rows.group_units, rows.group_units, to);
    }
  }
}

}  // namespace
}  // namespace trireme::worker
