// QuantizedMatrix: a matrix [rows][columns] of a quantised checkpoint, in the numbers that it
// means: value = (code - zero) · scale, or float8 · scale. How the bits lie in the file is its
// formats' matter (quantized_formats.h). Threads: const.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace trireme::worker {

class QuantizedMatrix {
 public:
  enum class Kind : uint8_t {
    kInt8Rows,      // Codes 0 to 255, zero 128, a scale per row.
    kInt4Groups,    // Codes 0 to 15, a zero and a scale per row and group of columns.
    kInt8Groups,    // Codes 0 to 255, likewise.
    kFloat8Groups,  // Codes are float8 e4m3, a scale per row and group of columns, no zeros.
  };

  virtual ~QuantizedMatrix() = default;
  [[nodiscard]] virtual Kind kind() const = 0;
  [[nodiscard]] virtual const std::string& name() const = 0;  // Of the layer, for errors.

  // Columns column_begin, column_begin + 1, … of one row.
  virtual void read_values(uint32_t row, uint32_t column_begin, std::span<float> out) const = 0;

  virtual void read_codes(uint32_t row, uint32_t column_begin, std::span<uint8_t> out) const = 0;
  [[nodiscard]] virtual uint32_t group_of(uint32_t column) const = 0;
  [[nodiscard]] virtual float scale(uint32_t row, uint32_t group) const = 0;
  [[nodiscard]] virtual uint32_t zero(uint32_t row, uint32_t group) const = 0;
  // All zeros are the middle of the codes.
  [[nodiscard]] virtual bool is_symmetric() const = 0;
  [[nodiscard]] virtual uint32_t group_columns() const = 0;  // Of a whole group.
};

}  // namespace trireme::worker
