// Rows that tokens pick: of the embedding and position tables, and of activations.
//
// Each output value is one value read, or one sum of two: nothing to order. Indices lie in device
// memory, one for each row of the output.
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// [row_count][columns of the output] in device memory.
struct TableRows {
  const void* data = nullptr;
  Element element = Element::kFloat32;
  uint32_t row_count = 0;
  uint32_t row_stride = 0;  // In elements; 0: all rows are the same one.
};

// out[i] = table[rows[i]], or zeros where there is no such row.
void embed(const TableRows& table, const int32_t* rows, const View& out, Queue& queue);
// x[i] += table[rows[i]], where there is such a row.
void add_table_rows(const TableRows& table, const int32_t* rows, const View& x, Queue& queue);
// out[i] = x[rows[i]].
void gather_rows(const View& x, const uint32_t* rows, const View& out, Queue& queue);

}  // namespace trireme::worker::cuda
