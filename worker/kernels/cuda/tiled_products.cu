#include "worker/kernels/cuda/tiled_products.h"

#include "worker/kernels/cuda/weight_rows.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kStep = 32;           // Of K.
constexpr uint32_t kThreadsAcross = 16;  // Of a tile, both ways.
constexpr uint32_t kThreads = kThreadsAcross * kThreadsAcross;
constexpr uint32_t kTileColumns = kThreadsAcross * kColumnsAtOnce;
// One more, so that neighbouring rows start in different banks.
constexpr uint32_t kStoredStep = kStep + 1;
constexpr uint32_t kPacksOfStep = kStep / kColumnsAtOnce;

constexpr std::size_t shared_bytes(uint32_t tile_rows) {
  return sizeof(float) * kStoredStep * (tile_rows + kTileColumns);
}

// kStep columns of row_count rows, rounded to Rounded, of those that load(row, column) gives four
// at once; zeros in the other rows of the tile.
template <typename Rounded, typename Load>
__device__ void load_tile(const Load& load, uint32_t row_count, uint32_t tile_rows, float* to) {
  for (uint32_t i = threadIdx.x; i < tile_rows * kPacksOfStep; i += kThreads) {
    const uint32_t row = i / kPacksOfStep;
    const uint32_t column = i % kPacksOfStep * kColumnsAtOnce;
    Columns values{};
    if (row < row_count) values = load(row, column);
    for (uint32_t j = 0; j < kColumnsAtOnce; ++j) {
      to[row * kStoredStep + column + j] = to_float(from_float<Rounded>(values.at[j]));
    }
  }
}

template <typename Rows>
__device__ Columns load_scaled(const Rows& rows, uint32_t row, uint32_t column) {
  Columns values = rows.load(row, column);
  if constexpr (Rows::kHasScales) {
    if (column >= rows.column_count()) return values;
    const float scale = rows.scale(row, column);
    for (uint32_t i = 0; i < kColumnsAtOnce; ++i) values.at[i] *= scale;
  }
  return values;
}

// Thread (r, c) of a tile has its rows r, r + 16, ... and columns c, c + 16, ...
template <typename Value, typename Rows, uint32_t kRowsEach>
__global__ void __launch_bounds__(kThreads)
    multiply_tiles(View x, WeightMatrix weight, View out, uint32_t columns) {
  constexpr uint32_t kTileRows = kThreadsAcross * kRowsEach;
  float* const x_tile = dynamic_shared<float>();
  float* const w_tile = x_tile + kTileRows * kStoredStep;
  const Rows rows(weight);
  const uint32_t first_row = blockIdx.x * kTileRows;
  const uint32_t first_column = blockIdx.y * kTileColumns;
  const uint32_t my_row = threadIdx.x / kThreadsAcross;
  const uint32_t my_column = threadIdx.x % kThreadsAcross;
  float sums[kRowsEach][kColumnsAtOnce] = {};
  for (uint32_t k = 0; k < rows.column_count(); k += kStep) {
    load_tile<Value>(
        [&](uint32_t row, uint32_t column) {
          return load_x(x, first_row + row, k + column, weight);
        },
        x.row_count - first_row, kTileRows, x_tile);
    load_tile<Value>(
        [&](uint32_t row, uint32_t column) {
          return load_scaled(rows, first_column + row, k + column);
        },
        columns - first_column, kTileColumns, w_tile);
    __syncthreads();
    for (uint32_t i = 0; i < kStep; ++i) {
      for (uint32_t row = 0; row < kRowsEach; ++row) {
        const float value = x_tile[(my_row + row * kThreadsAcross) * kStoredStep + i];
        for (uint32_t column = 0; column < kColumnsAtOnce; ++column) {
          sums[row][column] =
              __fmaf_rn(value, w_tile[(my_column + column * kThreadsAcross) * kStoredStep + i],
                        sums[row][column]);
        }
      }
    }
    __syncthreads();
  }
  for (uint32_t row = 0; row < kRowsEach; ++row) {
    const uint32_t out_row = first_row + my_row + row * kThreadsAcross;
    for (uint32_t column = 0; column < kColumnsAtOnce; ++column) {
      const uint32_t out_column = first_column + my_column + column * kThreadsAcross;
      if (out_row >= out.row_count || out_column >= columns) continue;
      const float bias = weight.bias == nullptr ? 0.0F : weight.bias[out_column];
      row_of(out, out_row)[out_column] = sums[row][column] + bias;
    }
  }
}

template <typename Value, typename Rows, uint32_t kRowsEach>
void launch_tiles(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) {
  constexpr uint32_t kTileRows = kThreadsAcross * kRowsEach;
  const uint32_t columns = min(out.column_count, weight.out_features);
  launch(multiply_tiles<Value, Rows, kRowsEach>,
         dim3{divided_up(x.row_count, kTileRows), divided_up(columns, kTileColumns)},
         dim3{kThreads}, shared_bytes(kTileRows), queue, x, weight, out, columns);
}

}  // namespace

void TiledProducts::multiply(const View& x, const WeightMatrix& weight, const View& out,
                             Queue& queue) {
  with_type_of(weight.element, [&](auto zero) {
    using Value = decltype(zero);
    with_rows_of<Value>(weight, [&](auto rows) {
      using Rows = typename decltype(rows)::type;
      if (x.row_count <= kThreadsAcross) {
        launch_tiles<Value, Rows, 1>(x, weight, out, queue);
      } else {
        launch_tiles<Value, Rows, 4>(x, weight, out, queue);
      }
    });
  });
}

}  // namespace trireme::worker::cuda
