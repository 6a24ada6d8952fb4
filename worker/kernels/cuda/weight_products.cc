#include "worker/kernels/cuda/weight_products.h"

namespace trireme::worker::cuda {

void WeightProducts::multiply(const View& x, const WeightMatrix& weight, const View& out,
                              Queue& queue) {
  if (weight.form == WeightForm::kInt8Rows) {
    multiply_int8(x, weight, out, queue);
  } else {
    in_floats_.multiply(x, weight, out, queue);
  }
}

void WeightProducts::multiply_int8(const View& x, const WeightMatrix& weight, const View& out,
                                   Queue& queue) {
  const std::size_t code_bytes = std::size_t{x.row_count} * weight.row_bytes;
  const std::size_t bytes = code_bytes + sizeof(float) * x.row_count;
  if (rows_.size() < bytes) {
    rows_ = DeviceBuffer();
    auto larger = DeviceBuffer::allocate(bytes + bytes / 4, "activations");
    if (!larger.ok()) return queue.keep(cudaErrorMemoryAllocation);
    rows_ = std::move(larger).value();
  }
  const CodedActivations rows{.codes = rows_.data(),
                              .scales = reinterpret_cast<float*>(rows_.data() + code_bytes),
                              .row_bytes = weight.row_bytes,
                              .row_count = x.row_count};
  quantize_rows(x, weight.in_features, rows, queue);
  multiply_codes(rows, weight, out, queue);
}

}  // namespace trireme::worker::cuda
