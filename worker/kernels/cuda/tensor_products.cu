#include "worker/kernels/cuda/tensor_products.h"

#include <cstring>

#include "worker/kernels/cuda/mma_tiles.h"
#include "worker/kernels/cuda/weight_rows.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kMmaStep = 2 * kMmaWords;  // Of K.
constexpr uint32_t kStep = 2 * kStepWords;
constexpr uint32_t kPacksOfStep = kStep / kColumnsAtOnce;

// Two neighbouring numbers, the first one in the low half.
template <typename Value>
__device__ uint32_t word_of(float first, float second) {
  const Value pair[2] = {from_float<Value>(first), from_float<Value>(second)};
  uint32_t word = 0;
  memcpy(&word, pair, sizeof(word));
  return word;
}

// kStep columns of row_count rows as words, of those that load(row, column) gives four at once;
// zeros in the other rows of the tile.
template <typename Value, typename Load>
__device__ void load_tile(const Load& load, uint32_t row_count, uint32_t tile_rows, uint32_t* to) {
  for (uint32_t i = threadIdx.x; i < tile_rows * kPacksOfStep; i += kMmaThreads) {
    const uint32_t row = i / kPacksOfStep;
    const uint32_t pack = i % kPacksOfStep;
    Columns values{};
    if (row < row_count) values = load(row, pack * kColumnsAtOnce);
    uint32_t* const words = to + row * kStoredWords + pack * 2;
    words[0] = word_of<Value>(values.at[0], values.at[1]);
    words[1] = word_of<Value>(values.at[2], values.at[3]);
  }
}

__device__ void store_sums(const MmaC& sums, uint32_t first_column, uint32_t first_row,
                           uint32_t columns, const float* bias, const View& out) {
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t column = first_column + c_column(i);
    const uint32_t row = first_row + c_row(i);
    if (row >= out.row_count || column >= columns) continue;
    row_of(out, row)[column] = sums.values[i] + (bias == nullptr ? 0.0F : bias[column]);
  }
}

// The sums of a group of columns, which end before k_end, go to the totals with their scales.
template <typename Rows, uint32_t kGroups>
__device__ void add_group(const Rows& rows, uint32_t first_column, uint32_t columns, uint32_t k_end,
                          MmaC (&sums)[kGroups], MmaC (&totals)[kGroups]) {
  float scales[2] = {};
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t column = first_column + c_column(2 * i);
    if (column < columns) scales[i] = rows.scale(column, k_end - 1);
  }
  for (uint32_t group = 0; group < kGroups; ++group) {
    for (uint32_t i = 0; i < 4; ++i) {
      float& total = totals[group].values[i];
      total = __fmaf_rn(sums[group].values[i], scales[i / 2], total);
      sums[group].values[i] = 0;
    }
  }
}

// kGroups: of kMmaTokens rows of x.
template <typename Value, typename Rows, uint32_t kGroups>
__global__ void __launch_bounds__(kMmaThreads)
    multiply_on_tensor_cores(View x, WeightMatrix weight, View out, uint32_t columns) {
  constexpr uint32_t kTileTokens = kGroups * kMmaTokens;
  uint32_t* const w_tile = dynamic_shared<uint32_t>();
  uint32_t* const x_tile = w_tile + kTileRows * kStoredWords;
  const Rows rows(weight);
  const uint32_t column_count = rows.column_count();
  const uint32_t first_token = blockIdx.x * kTileTokens;
  const uint32_t first_column = blockIdx.y * kTileRows;
  const uint32_t warp_rows = threadIdx.x / kWarp * kMmaRows;
  MmaC sums[kGroups] = {};
  MmaC totals[kGroups] = {};
  for (uint32_t k = 0; k < column_count; k += kStep) {
    load_tile<Value>(
        [&](uint32_t row, uint32_t column) { return rows.load(first_column + row, k + column); },
        columns - first_column, kTileRows, w_tile);
    load_tile<Value>(
        [&](uint32_t row, uint32_t column) {
          return load_x(x, first_token + row, k + column, weight);
        },
        x.row_count - first_token, kTileTokens, x_tile);
    __syncthreads();
    for (uint32_t word = 0; word < kStepWords; word += kMmaWords) {
      const uint32_t k_end = k + 2 * word + kMmaStep;
      if constexpr (Rows::kHasScales) {
        if (k_end > column_count) break;
      }
      const MmaA a = load_a(w_tile, warp_rows, word);
      for (uint32_t group = 0; group < kGroups; ++group) {
        multiply_add<Value>(sums[group], a, load_b(x_tile, group * kMmaTokens, word));
      }
      if constexpr (Rows::kHasScales) {
        if (k_end % rows.group_columns() == 0) {
          add_group(rows, first_column + warp_rows, columns, k_end, sums, totals);
        }
      }
    }
    __syncthreads();
  }
  for (uint32_t group = 0; group < kGroups; ++group) {
    store_sums(Rows::kHasScales ? totals[group] : sums[group], first_column + warp_rows,
               first_token + group * kMmaTokens, columns, weight.bias, out);
  }
}

template <typename Value>
void multiply_halves(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) {
  const uint32_t columns = min(out.column_count, weight.out_features);
  with_rows_of<Value>(weight, [&](auto rows) {
    with_token_groups(x.row_count, [&](auto groups) {
      constexpr uint32_t kTileTokens = decltype(groups)::value * kMmaTokens;
      launch(
          multiply_on_tensor_cores<Value, typename decltype(rows)::type, decltype(groups)::value>,
          dim3{divided_up(x.row_count, kTileTokens), divided_up(columns, kTileRows)},
          dim3{kMmaThreads}, tile_bytes(kTileTokens), queue, x, weight, out, columns);
    });
  });
}

}  // namespace

void TensorProducts::multiply(const View& x, const WeightMatrix& weight, const View& out,
                              Queue& queue) {
  if (weight.element == Element::kBfloat16) {
    multiply_halves<__nv_bfloat16>(x, weight, out, queue);
  } else if (weight.element == Element::kFloat16) {
    multiply_halves<__half>(x, weight, out, queue);
  } else {
    of_fp32_.multiply(x, weight, out, queue);
  }
}

}  // namespace trireme::worker::cuda
