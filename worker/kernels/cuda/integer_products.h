// Matrix products of int8 codes: weights of WeightForm::kInt8Rows and rows of
// activations that become codes first, as on the CPU (cpu/quantize_rows_body.h): value = code ·
// scale, the largest magnitude of the row being 127.
//
// Tiles are those of TensorProducts, with 128 columns of K in a step and 32 at once in the tensor
// cores. Sums are exact in int32 and scaled once, so their order means nothing. A row that holds a
// NaN or an infinity has the scale NaN, so it is lost alone.
#pragma once

#include "worker/kernels/cuda/matrix_products.h"

namespace trireme::worker::cuda {

// Of an int32 sum of products up to 128 · 127.
inline constexpr uint32_t kInt8ColumnsMax = 131072;

// Rows of x as codes, in device memory.
struct CodedActivations {
  std::byte* codes = nullptr;  // [row_count][row_bytes], zeros behind the columns.
  float* scales = nullptr;     // [row_count]
  uint32_t row_bytes = 0;      // A multiple of 16.
  uint32_t row_count = 0;
};

void quantize_rows(const View& x, uint32_t column_count, const CodedActivations& to, Queue& queue);
// x: as long as the rows of the weight, which is of kInt8Rows. out as MatrixProducts has it.
void multiply_codes(const CodedActivations& x, const WeightMatrix& weight, const View& out,
                    Queue& queue);

}  // namespace trireme::worker::cuda
