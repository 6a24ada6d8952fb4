// TiledProducts: matrix products on the ordinary fp32 units, in tiles through shared memory.
//
//            64 columns of out (rows of W)
//          ┌──────────────┐
//   16/64  │ a thread has │   K in steps of 32: a piece of x and one of W go to shared memory,
//   rows   │ 1/4 rows x   │   all threads multiply from there
//          │ 4 columns    │
//          └──────────────┘
//
// Order of sums: one fp32 accumulator for each value, along K from its beginning to its end,
// whatever the tile: the small tile for few rows gives the bits of the large one.
#pragma once

#include "worker/kernels/cuda/matrix_products.h"

namespace trireme::worker::cuda {

class TiledProducts final : public MatrixProducts {
 public:
  void multiply(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) override;
};

}  // namespace trireme::worker::cuda
