#include "worker/models/weight_reader.h"

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

}  // namespace

StatusOr<MatrixSlice> WeightReader::matrix(const std::string& name, uint32_t row_count,
                                           uint32_t column_count) const {
  TRIREME_ASSIGN_OR_RETURN(const TensorView tensor,
                           weights_.require(name, {row_count, column_count}));
  TRIREME_ASSIGN_OR_RETURN(const Element element, element_of(tensor));
  return MatrixSlice{tensor.bytes.data(), element, column_count, row_count, column_count};
}

StatusOr<MatrixSlice> WeightReader::transposed(const std::string& name, uint32_t row_count,
                                               uint32_t column_count) const {
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
  matrix.data = static_cast<const std::byte*>(matrix.data) +
                rows.begin * matrix.row_stride * element_bytes(matrix.element);
  matrix.row_count = rows.count;
  return matrix;
}

MatrixSlice columns_of(MatrixSlice matrix, Range columns) {
  matrix.data = static_cast<const std::byte*>(matrix.data) +
                columns.begin * matrix.column_stride * element_bytes(matrix.element);
  matrix.column_count = columns.count;
  return matrix;
}

}  // namespace trireme::worker
