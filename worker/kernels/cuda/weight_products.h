// WeightProducts: the products of a CudaDevice, with weights of all forms (matrix_products.h).
//
// Rows of activations that become codes lie in memory that grows to the largest step seen; where it
// is not there the queue has the error. Threads: the device's.
#pragma once

#include "worker/kernels/cuda/integer_products.h"
#include "worker/kernels/cuda/runtime.h"
#include "worker/kernels/cuda/tensor_products.h"

namespace trireme::worker::cuda {

class WeightProducts final : public MatrixProducts {
 public:
  void multiply(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) override;

 private:
  void multiply_int8(const View& x, const WeightMatrix& weight, const View& out, Queue& queue);

  TensorProducts in_floats_;
  DeviceBuffer rows_;
};

}  // namespace trireme::worker::cuda
