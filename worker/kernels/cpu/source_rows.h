// The stacked rows of a LinearSource as numbers, whatever the checkpoint keeps them in.
#pragma once

#include <span>
#include <vector>

#include "worker/device.h"

namespace trireme::worker::cpu {

// A row of one part.
struct SourceRow {
  const MatrixSlice* part = nullptr;  // Null in the padding.
  uint32_t row = 0;                   // Within the part.
};

[[nodiscard]] uint32_t row_count_of(const std::vector<MatrixSlice>& parts);
[[nodiscard]] SourceRow find_row(const std::vector<MatrixSlice>& parts, uint32_t row);

// All columns of the part. Rows of the padding are zeros.
void read_row(const SourceRow& row, std::span<float> out);

// The largest of a row; no finite number where one of its values is none.
[[nodiscard]] float largest_magnitude(const SourceRow& row);

}  // namespace trireme::worker::cpu
