#include "worker/kernels/cpu/source_rows.h"

#include <algorithm>

#include "worker/kernels/element.h"
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
  for (uint32_t k = 0; k < out.size(); ++k) {
    out[k] = read_element(part.data, begin + k * part.column_stride, part.element);
  }
}

}  // namespace trireme::worker::cpu
