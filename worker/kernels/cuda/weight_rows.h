// The rows of a WeightMatrix, four columns at a time, and those of the x that they meet. For the
// kernels that multiply in floating point. Device code.
#pragma once

#include <cmath>
#include <type_traits>

#include "worker/kernels/cuda/matrix_products.h"
#include "worker/kernels/cuda/numbers.h"

namespace trireme::worker::cuda {

// Numbers as they are.
template <typename Value>
class PlainRows {
 public:
  static constexpr bool kHasScales = false;

  __device__ explicit PlainRows(const WeightMatrix& weight)
      : data_(static_cast<const Value*>(weight.data)), columns_(weight.in_features) {}
  [[nodiscard]] __device__ uint32_t column_count() const { return columns_; }
  [[nodiscard]] __device__ Columns load(uint32_t row, uint32_t column) const {
    return load_columns(data_ + std::size_t{row} * columns_, column, columns_);
  }

 private:
  const Value* data_;
  uint32_t columns_;
};

struct HalfByteCodes {
  static constexpr bool kHasZeros = true;
  static constexpr float kMiddle = 8;
  [[nodiscard]] __device__ static Columns load(const uint8_t* row, uint32_t column) {
    const auto bytes = *reinterpret_cast<const Pack<uint8_t, 2>*>(row + column / 2);
    Columns codes;
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) {
      codes.at[i] = static_cast<float>(bytes.at[i / 2] >> (i % 2 * 4) & 0xf);
    }
    return codes;
  }
};

struct ByteCodes {
  static constexpr bool kHasZeros = true;
  static constexpr float kMiddle = 128;
  [[nodiscard]] __device__ static Columns load(const uint8_t* row, uint32_t column) {
    const auto bytes = *reinterpret_cast<const Pack<uint8_t, 4>*>(row + column);
    Columns codes;
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) codes.at[i] = static_cast<float>(bytes.at[i]);
    return codes;
  }
};

struct Float8Codes {
  static constexpr bool kHasZeros = false;
  [[nodiscard]] __device__ static Columns load(const uint8_t* row, uint32_t column) {
    const auto bytes = *reinterpret_cast<const Pack<uint8_t, 4>*>(row + column);
    Columns values;
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) values.at[i] = value(bytes.at[i]);
    return values;
  }

 private:
  [[nodiscard]] __device__ static float value(uint32_t bits) {
    constexpr uint32_t kNan = 0x7f;
    constexpr uint32_t kMantissaBits = 3;
    constexpr uint32_t kExponentMore = 127 - 7;  // That fp32 adds to an exponent.
    const uint32_t magnitude = bits & kNan;
    float value = static_cast<float>(magnitude) * (1.0F / 512);  // Without an exponent.
    if (magnitude >> kMantissaBits != 0) {
      value = __uint_as_float((magnitude << (23 - kMantissaBits)) + (kExponentMore << 23));
    }
    if (magnitude == kNan) value = NAN;
    return bits >> 7 != 0 ? -value : value;
  }
};

// Numbers that lack their scale: (code - zero).
template <typename Codes>
class CodedRows {
 public:
  static constexpr bool kHasScales = true;

  __device__ explicit CodedRows(const WeightMatrix& weight)
      : data_(static_cast<const uint8_t*>(weight.data)),
        row_bytes_(weight.row_bytes),
        scales_(weight.scales),
        zeros_(weight.zeros),
        group_columns_(weight.group_columns),
        group_count_(weight.group_count) {}
  [[nodiscard]] __device__ uint32_t column_count() const { return group_columns_ * group_count_; }
  [[nodiscard]] __device__ uint32_t group_columns() const { return group_columns_; }
  [[nodiscard]] __device__ Columns load(uint32_t row, uint32_t column) const {
    if (column >= column_count()) return {};
    Columns values = Codes::load(data_ + std::size_t{row} * row_bytes_, column);
    if constexpr (Codes::kHasZeros) {
      float zero = Codes::kMiddle;
      if (zeros_ != nullptr) zero = static_cast<float>(zeros_[index(row, column)]);
      for (uint32_t i = 0; i < kColumnsAtOnce; ++i) values.at[i] -= zero;
    }
    return values;
  }
  // Of the group that the column is in.
  [[nodiscard]] __device__ float scale(uint32_t row, uint32_t column) const {
    return scales_[index(row, column)];
  }

 private:
  [[nodiscard]] __device__ std::size_t index(uint32_t row, uint32_t column) const {
    return std::size_t{row} * group_count_ + column / group_columns_;
  }

  const uint8_t* data_;
  uint32_t row_bytes_;
  const float* scales_;
  const uint16_t* zeros_;
  uint32_t group_columns_;
  uint32_t group_count_;
};

// Columns column to column + 3 of the weight, of a row of x; zeros behind the last one.
__device__ inline Columns load_x(const View& x, uint32_t row, uint32_t column,
                                 const WeightMatrix& weight) {
  const float* const values = row_of(x, row);
  if (weight.column_order == nullptr) return load_columns(values, column, weight.in_features);
  Columns columns{};
  if (column >= weight.group_columns * weight.group_count) return columns;
  for (uint32_t i = 0; i < kColumnsAtOnce; ++i) {
    const int32_t of_x = weight.column_order[column + i];
    if (of_x >= 0) columns.at[i] = values[of_x];
  }
  return columns;
}

// Calls body with std::type_identity of the rows of the weight; not of kInt8Rows, which are
// integer_products.h's.
template <typename Value, typename Body>
void with_rows_of(const WeightMatrix& weight, const Body& body) {
  switch (weight.form) {
    case WeightForm::kPlain:
      return body(std::type_identity<PlainRows<Value>>{});
    case WeightForm::kInt8Rows:
      return;
    case WeightForm::kInt4Groups:
      return body(std::type_identity<CodedRows<HalfByteCodes>>{});
    case WeightForm::kInt8Groups:
      return body(std::type_identity<CodedRows<ByteCodes>>{});
    case WeightForm::kFloat8Groups:
      return body(std::type_identity<CodedRows<Float8Codes>>{});
  }
}

}  // namespace trireme::worker::cuda
