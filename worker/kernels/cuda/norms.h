// Norms of rows, or of each head's columns of a row by itself.
//
// Order of sums: a thread adds its columns (packs of 4, every thread-count-th pack) in ascending
// order, then reduce.h adds the threads. The number of threads follows from the row's length, so
// the order is a function of the model's shape alone. Sums are fp32.
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// `x` may be `out`.
struct NormRows {
  View x;
  View delta;  // Added to x first, and x is written; data null: nothing is.
  const float* weight = nullptr;
  const float* bias = nullptr;  // Null: none. Of layer_norm.
  float epsilon = 0;
  View out;
  // Not 0: each head of so many columns is a row of its own.
  uint32_t head_size = 0;
  bool has_weight_of_each_head = false;  // One of head_size for each; else all have the same.
};

// out = x / rms(x) · weight
void rms_norm(const NormRows& rows, Queue& queue);
// out = (x - mean) / deviation · weight + bias
void layer_norm(const NormRows& rows, Queue& queue);

// The two halves of an RMS norm over rows that several ranks hold in parts: sums[row] is what this
// rank's part adds, then with the sums over all ranks and the length of the whole row,
// x = x / rms · weight.
void sum_squares(const View& x, float* sums, Queue& queue);
void finish_wide_rms_norm(const View& x, const float* sums, uint32_t whole_columns,
                          const float* weight, float epsilon, Queue& queue);

}  // namespace trireme::worker::cuda
