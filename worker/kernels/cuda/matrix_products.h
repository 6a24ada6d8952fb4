// MatrixProducts: how a CudaDevice multiplies with weights, whatever they are kept in.
//
//   TensorProducts   bf16 and fp16 on tensor cores, and codes that become such on the way there
//   TiledProducts    fp32, and codes that become such
//   WeightProducts   what a CudaDevice has: these, and int8 rows (integer_products.h)
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// What a weight's values lie in. Of the grouped ones a value is (code - zero) · scale, with a scale
// for each row and group of columns; codes and zeros are exact in bf16.
enum class WeightForm : uint8_t {
  kPlain,         // Numbers of the element, without gaps.
  kInt8Rows,      // Signed bytes, a scale for each row; x becomes such bytes too.
  kInt4Groups,    // Half bytes, 0 to 15, the first of two in the low half.
  kInt8Groups,    // Bytes, 0 to 255.
  kFloat8Groups,  // Float8 e4m3; no zeros.
};

// [out_features][in_features] in device memory, row-major.
struct WeightMatrix {
  const void* data = nullptr;
  WeightForm form = WeightForm::kPlain;
  Element element = Element::kFloat32;  // What values of x are rounded to; not with kInt8Rows.
  uint32_t out_features = 0;
  uint32_t in_features = 0;
  const float* bias = nullptr;  // [out_features], or null.

  // Of codes. Rows begin row_bytes apart, at multiples of 16, with zeros to their end.
  uint32_t row_bytes = 0;
  const float* scales = nullptr;  // [out_features][group_count]; kInt8Rows: one group.
  // [out_features][group_count], or null: the middle of the codes.
  const uint16_t* zeros = nullptr;
  uint32_t group_columns = 0;  // A multiple of 32; kInt8Rows: of 16.
  uint32_t group_count = 0;
  // [group_columns · group_count]: column i is this one of x, a negative one none. Null: the i-th.
  const int32_t* column_order = nullptr;
};

class MatrixProducts {
 public:
  virtual ~MatrixProducts() = default;
  // out = x · Wᵀ + bias, summed in fp32 or exactly. out may have fewer columns than W has rows:
  // then they are the first ones. Each value is a sum whose order depends on W's shape alone, not
  // on how many rows there are.
  virtual void multiply(const View& x, const WeightMatrix& weight, const View& out,
                        Queue& queue) = 0;
};

}  // namespace trireme::worker::cuda
