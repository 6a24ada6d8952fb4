#include "worker/kernels/cuda/norms.h"

#include "worker/kernels/cuda/numbers.h"
#include "worker/kernels/cuda/reduce.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kThreadsMax = 256;

// Enough warps for one pack of each thread, up to the most.
uint32_t threads_for(uint32_t columns) {
  const uint32_t packs = divided_up(columns, kColumnsAtOnce);
  return min(divided_up(packs, kWarp) * kWarp, kThreadsMax);
}

// The row of a block: blockIdx.x is the row, blockIdx.y the head.
struct NormRow {
  float* x;
  const float* delta;
  const float* weight;
  const float* bias;
  float* out;
  uint32_t columns;

  __device__ explicit NormRow(const NormRows& rows)
      : columns(rows.head_size == 0 ? rows.x.column_count : rows.head_size) {
    const uint32_t begin = blockIdx.y * columns;
    const uint32_t weight_begin = rows.has_weight_of_each_head ? begin : 0;
    x = row_of(rows.x, blockIdx.x) + begin;
    delta = rows.delta.data == nullptr ? nullptr : row_of(rows.delta, blockIdx.x) + begin;
    weight = rows.weight + weight_begin;
    bias = rows.bias == nullptr ? nullptr : rows.bias + weight_begin;
    out = row_of(rows.out, blockIdx.x) + begin;
  }

  // body(column) for each pack of this thread.
  template <typename Body>
  __device__ void for_packs(const Body& body) const {
    for (uint32_t column = threadIdx.x * kColumnsAtOnce; column < columns;
         column += blockDim.x * kColumnsAtOnce) {
      body(column);
    }
  }
};

__device__ float squares_of(const Columns& values, float sum) {
  for (const float value : values.at) sum = __fmaf_rn(value, value, sum);
  return sum;
}

__global__ void normalise_rms(NormRows rows) {
  const NormRow row(rows);
  float sum = 0;
  row.for_packs([&](uint32_t column) {
    Columns x = load_columns(row.x, column, row.columns);
    if (row.delta != nullptr) {
      const Columns delta = load_columns(row.delta, column, row.columns);
      for (uint32_t i = 0; i < kColumnsAtOnce; ++i) x.at[i] += delta.at[i];
      store_columns(x, row.x, column, row.columns);
    }
    sum = squares_of(x, sum);
  });
  const float mean = block_sum(sum) / static_cast<float>(row.columns);
  const float factor = 1.0F / sqrtf(mean + rows.epsilon);
  row.for_packs([&](uint32_t column) {
    Columns x = load_columns(row.x, column, row.columns);
    const Columns weight = load_columns(row.weight, column, row.columns);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) x.at[i] = x.at[i] * factor * weight.at[i];
    store_columns(x, row.out, column, row.columns);
  });
}

__global__ void normalise_layer(NormRows rows) {
  const NormRow row(rows);
  const auto count = static_cast<float>(row.columns);
  float sum = 0;
  row.for_packs([&](uint32_t column) {
    const Columns x = load_columns(row.x, column, row.columns);
    for (const float value : x.at) sum += value;
  });
  const float mean = block_sum(sum) / count;
  float squares = 0;
  row.for_packs([&](uint32_t column) {
    Columns x = load_columns(row.x, column, row.columns);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) {
      x.at[i] = column + i < row.columns ? x.at[i] - mean : 0.0F;
    }
    squares = squares_of(x, squares);
  });
  const float factor = 1.0F / sqrtf(block_sum(squares) / count + rows.epsilon);
  row.for_packs([&](uint32_t column) {
    Columns x = load_columns(row.x, column, row.columns);
    const Columns weight = load_columns(row.weight, column, row.columns);
    Columns bias{};
    if (row.bias != nullptr) bias = load_columns(row.bias, column, row.columns);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) {
      x.at[i] = __fmaf_rn((x.at[i] - mean) * factor, weight.at[i], bias.at[i]);
    }
    store_columns(x, row.out, column, row.columns);
  });
}

__global__ void sum_squares_of_rows(View x, float* sums) {
  const NormRow row(NormRows{.x = x, .out = x});
  float sum = 0;
  row.for_packs(
      [&](uint32_t column) { sum = squares_of(load_columns(row.x, column, row.columns), sum); });
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void multiply_rows(NormRows rows, const float* sums, uint32_t whole_columns) {
  const NormRow row(rows);
  const float mean = sums[blockIdx.x] / static_cast<float>(whole_columns);
  const float factor = 1.0F / sqrtf(mean + rows.epsilon);
  row.for_packs([&](uint32_t column) {
    Columns x = load_columns(row.x, column, row.columns);
    const Columns weight = load_columns(row.weight, column, row.columns);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) x.at[i] = x.at[i] * factor * weight.at[i];
    store_columns(x, row.out, column, row.columns);
  });
}

dim3 grid_of(const NormRows& rows) {
  const uint32_t heads = rows.head_size == 0 ? 1 : rows.x.column_count / rows.head_size;
  return dim3{rows.x.row_count, heads};
}

dim3 block_of(const NormRows& rows) {
  return dim3{threads_for(rows.head_size == 0 ? rows.x.column_count : rows.head_size)};
}

}  // namespace

void rms_norm(const NormRows& rows, Queue& queue) {
  launch(normalise_rms, grid_of(rows), block_of(rows), 0, queue, rows);
}

void layer_norm(const NormRows& rows, Queue& queue) {
  launch(normalise_layer, grid_of(rows), block_of(rows), 0, queue, rows);
}

void sum_squares(const View& x, float* sums, Queue& queue) {
  launch(sum_squares_of_rows, dim3{x.row_count}, dim3{threads_for(x.column_count)}, 0, queue, x,
         sums);
}

void finish_wide_rms_norm(const View& x, const float* sums, uint32_t whole_columns,
                          const float* weight, float epsilon, Queue& queue) {
  const NormRows rows{.x = x, .weight = weight, .epsilon = epsilon, .out = x};
  launch(multiply_rows, grid_of(rows), block_of(rows), 0, queue, rows, sums, whole_columns);
}

}  // namespace trireme::worker::cuda
