#include "worker/models/weight_reader.h"

#include "worker/weights/quantized_formats.h"

namespace trireme::worker {
namespace {

StatusOr<Element> element_of(const TensorView& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return Element::kFloat32;
    case DType::kBF16:
      return Element::kBfloat16;
    case DType::kF16:
      return Element::kFloat16;
    default:
      return error(StatusCode::kInvalidArgument,
                   "tensor %s: dtype %s is not supported; supported are F32, BF16, F16",
                   tensor.name, name_of(tensor.dtype));
  }
}

// "a.b.weight" -> "a.b"
std::string layer_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

}  // namespace

bool WeightReader::is_stored_quantized(const std::string& name) const {
  return is_quantized(weights_, quantization_, layer_of(name));
}

bool WeightReader::has_matrix(const std::string& name) const {
  return weights_.find(name) != nullptr || is_stored_quantized(name);
}

StatusOr<MatrixSlice> WeightReader::matrix(const std::string& name, uint32_t row_count,
                                           uint32_t column_count) const {
  if (is_stored_quantized(name)) {
    MatrixSlice slice{.row_count = row_count, .column_count = column_count};
    TRIREME_ASSIGN_OR_RETURN(
        slice.quantized,
        open_quantized(weights_, quantization_, layer_of(name), row_count, column_count));
    return slice;
  }
  TRIREME_ASSIGN_OR_RETURN(const TensorView tensor,
                           weights_.require(name, {row_count, column_count}));
  TRIREME_ASSIGN_OR_RETURN(const Element element, element_of(tensor));
  return MatrixSlice{tensor.bytes.data(), element, column_count, row_count, column_count};
}

StatusOr<MatrixSlice> WeightReader::transposed(const std::string& name, uint32_t row_count,
                                               uint32_t column_count) const {
  // Formats of codes have a layout of their own for each.
  if (is_stored_quantized(name)) return matrix(name, row_count, column_count);
  TRIREME_ASSIGN_OR_RETURN(MatrixSlice stored, matrix(name, column_count, row_count));
  stored.row_count = row_count;
  stored.column_count = column_count;
  stored.column_stride = stored.row_stride;
  stored.row_stride = 1;
  return stored;
}

StatusOr<MatrixSlice> WeightReader::vector(const std::string& name, uint32_t count) const {
  TRIREME_ASSIGN_OR_RETURN(const TensorView tensor, weights_.require(name, {count}));
  TRIREME_ASSIGN_OR_RETURN(const Element element, element_of(tensor));
  return MatrixSlice{tensor.bytes.data(), element, count, 1, count};
}

MatrixSlice rows_of(MatrixSlice matrix, Range rows) {
  matrix.row_count = rows.count;
  matrix.row_begin += rows.begin;
  if (matrix.quantized != nullptr) return matrix;
  matrix.data = static_cast<const std::byte*>(matrix.data) +
                rows.begin * matrix.row_stride * element_bytes(matrix.element);
  return matrix;
}

MatrixSlice columns_of(MatrixSlice matrix, Range columns) {
  matrix.column_count = columns.count;
  matrix.column_begin += columns.begin;
  if (matrix.quantized != nullptr) return matrix;
  matrix.data = static_cast<const std::byte*>(matrix.data) +
                columns.begin * matrix.column_stride * element_bytes(matrix.element);
  return matrix;
}

}  // namespace trireme::worker
