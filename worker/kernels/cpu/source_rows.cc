#include "worker/kernels/cpu/source_rows.h"

#include <algorithm>
#include <cstring>

#include "worker/kernels/element.h"
#include "worker/kernels/quantize.h"
#include "worker/weights/quantized_matrix.h"

namespace trireme::worker::cpu {

uint32_t row_count_of(const std::vector<MatrixSlice>& parts) {
  uint32_t rows = 0;
  for (const MatrixSlice& part : parts) rows += part.row_count;
  return rows;
}

SourceRow find_row(const std::vector<MatrixSlice>& parts, uint32_t row) {
  for (const MatrixSlice& part : parts) {
    if (row < part.row_count) return {&part, row};
    row -= part.row_count;
  }
  return {};
}

void read_row(const SourceRow& row, std::span<float> out) {
  if (row.part == nullptr) {
    std::ranges::fill(out, 0.0F);
    return;
  }
  const MatrixSlice& part = *row.part;
  if (part.quantized != nullptr) {
    return part.quantized->read_values(part.row_begin + row.row, part.column_begin, out);
  }
  const uint64_t begin = row.row * part.row_stride;
  if (part.element == Element::kBfloat16 && part.column_stride == 1) {
    for (uint32_t k = 0; k < out.size(); ++k) {
      out[k] = read_element(part.data, begin + k, Element::kBfloat16);
    }
    return;
  }
  for (uint32_t k = 0; k < out.size(); ++k) {
    out[k] = read_element(part.data, begin + k * part.column_stride, part.element);
  }
}

float largest_magnitude(const SourceRow& row) {
  const MatrixSlice& part = *row.part;
  if (part.quantized == nullptr && part.element == Element::kBfloat16 && part.column_stride == 1) {
    const auto* halves = static_cast<const std::byte*>(part.data) + 2 * row.row * part.row_stride;
    int16_t largest = 0;
    for (uint32_t k = 0; k < part.column_count; ++k) {
      int16_t half = 0;
      std::memcpy(&half, halves + 2 * std::size_t{k}, sizeof(half));
      largest = std::max(largest, static_cast<int16_t>(half & 0x7fff));
    }
    return float_of_bfloat16(static_cast<uint16_t>(largest));
  }
  std::vector<float> values(part.column_count);
  read_row(row, values);
  return worker::largest_magnitude(values);
}

}  // namespace trireme::worker::cpu
