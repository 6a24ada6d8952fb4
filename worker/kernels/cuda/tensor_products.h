// TensorProducts: matrix products on tensor cores, for weights of bf16 and fp16, and for codes
// where x is such; where x is fp32 they go to TiledProducts.
//
//   64 rows of W, 16 to a warp  x  8 or 64 rows of x        K in steps of 64 through shared memory,
//                                                            16 at once in the tensor cores (mma.h)
//
// W is the left factor, so that few rows of x are 8 columns, not 16 rows that are mostly empty.
// Codes become halves on the way to shared memory, without rounding, as (code - zero); the scale of
// a group multiplies the group's sum. So a weight is as exact as its checkpoint has it.
//
// Order of sums: one fp32 accumulator for each value, 16 products at a time along K from its
// beginning to its end, whatever the tile; with codes one for each group, and the groups in order.
#pragma once

#include "worker/kernels/cuda/tiled_products.h"

namespace trireme::worker::cuda {

class TensorProducts final : public MatrixProducts {
 public:
  void multiply(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) override;

 private:
  TiledProducts of_fp32_;
};

}  // namespace trireme::worker::cuda
