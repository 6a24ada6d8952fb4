// MatrixProducts: how a CudaDevice multiplies with weights. TensorProducts where weights are
// halves, TiledProducts where they are fp32.
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// [out_features][in_features] in device memory, row-major without gaps.
struct WeightMatrix {
  const void* data = nullptr;
  Element element = Element::kFloat32;
  uint32_t out_features = 0;
  uint32_t in_features = 0;
  const float* bias = nullptr;  // [out_features], or null.
};

class MatrixProducts {
 public:
  virtual ~MatrixProducts() = default;
  // out = x · Wᵀ + bias in fp32, the values of x rounded to the weights' element first. out may
  // have fewer columns than W has rows: then they are the first ones. Each value is a sum whose
  // order depends on W's shape alone, not on how many rows there are.
  virtual void multiply(const View& x, const WeightMatrix& weight, const View& out,
                        Queue& queue) = 0;
};

}  // namespace trireme::worker::cuda
