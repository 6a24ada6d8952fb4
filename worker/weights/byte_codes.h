// Matrices with a byte for each weight: int8 codes with a scale for each row, and float8 numbers
// with a scale for all, for each row or for each block.
#pragma once

#include <memory>
#include <string>

#include "worker/weights/quantized_matrix.h"
#include "worker/weights/stored_values.h"

namespace trireme::worker {

struct ByteCodes {
  std::string name;
  const std::byte* bytes = nullptr;  // [row][column]
  uint32_t column_count = 0;
  bool is_float8 = false;
  StoredFloats scales;
  // Rows and columns that share one; the scales lie in rows of scales_per_row.
  uint32_t block_rows = 1;
  uint32_t block_columns = 1;
  uint32_t scales_per_row = 1;
};

[[nodiscard]] std::shared_ptr<const QuantizedMatrix> make_byte_codes(ByteCodes codes);

// Float8 of 4 exponent and 3 mantissa bits, without infinities (float8_e4m3fn).
[[nodiscard]] float float_of_float8(uint8_t bits);

}  // namespace trireme::worker
