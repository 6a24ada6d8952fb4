// WeightReader: a checkpoint's tensors as slices for a Device, with their shapes checked; a matrix
// that is stored quantised as a slice of what it means (weights/quantized_formats.h).
// Errors name the tensor and what was expected. Threads: const.
#pragma once

#include <string>

#include "worker/device.h"
#include "worker/weights/quantization_config.h"
#include "worker/weights/safetensors.h"

namespace trireme::worker {

struct Range {
  uint32_t begin = 0;
  uint32_t count = 0;
};

// The `rank`th of `rank_count` equal parts; count must divide.
[[nodiscard]] inline Range equal_part(uint32_t count, uint32_t rank, uint32_t rank_count) {
  return {count / rank_count * rank, count / rank_count};
}

class WeightReader {
 public:
  explicit WeightReader(const Safetensors& weights, QuantizationConfig quantization = {})
      : weights_(weights), quantization_(quantization) {}

  // Names end in ".weight", however the matrix is stored.
  [[nodiscard]] bool has_matrix(const std::string& name) const;
  // All of a [row_count][column_count] matrix.
  [[nodiscard]] StatusOr<MatrixSlice> matrix(const std::string& name, uint32_t row_count,
                                             uint32_t column_count) const;
  // Likewise of one that is stored [column_count][row_count].
  [[nodiscard]] StatusOr<MatrixSlice> transposed(const std::string& name, uint32_t row_count,
                                                 uint32_t column_count) const;
  // A vector of `count`, as one row.
  [[nodiscard]] StatusOr<MatrixSlice> vector(const std::string& name, uint32_t count) const;

 private:
  [[nodiscard]] bool is_stored_quantized(const std::string& name) const;

  const Safetensors& weights_;
  const QuantizationConfig quantization_;
};

[[nodiscard]] MatrixSlice rows_of(MatrixSlice matrix, Range rows);
[[nodiscard]] MatrixSlice columns_of(MatrixSlice matrix, Range columns);

}  // namespace trireme::worker
