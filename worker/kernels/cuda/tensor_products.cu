#include "worker/kernels/cuda/tensor_products.h"

#include <cstring>

#include "worker/kernels/cuda/numbers.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kThreads = kWarps * kWarp;
constexpr uint32_t kMmaRows = 16;   // Of W.
constexpr uint32_t kMmaTokens = 8;  // Rows of x.
constexpr uint32_t kMmaStep = 16;   // Of K.
constexpr uint32_t kTileRows = kWarps * kMmaRows;
constexpr uint32_t kStep = 64;  // Of K, in shared memory.
constexpr uint32_t kStepWords = kStep / 2;
// The rows that a warp reads at once lie in different banks: 4 more words for each.
constexpr uint32_t kStoredWords = kStepWords + 4;
constexpr uint32_t kPacksOfStep = kStep / kColumnsAtOnce;

// Two neighbouring numbers, the first one in the low half.
template <typename Value>
__device__ uint32_t word_of(float first, float second) {
  const Value pair[2] = {from_float<Value>(first), from_float<Value>(second)};
  uint32_t word = 0;
  memcpy(&word, pair, sizeof(word));
  return word;
}

// Some rows of a matrix, columns k to k + kStep - 1, as words; zeros where there is none.
template <typename Value, typename Stored>
__device__ void load_tile(const Stored* data, std::size_t row_stride, uint32_t first_row,
                          uint32_t row_count, uint32_t k, uint32_t column_count, uint32_t tile_rows,
                          uint32_t* to) {
  for (uint32_t i = threadIdx.x; i < tile_rows * kPacksOfStep; i += kThreads) {
    const uint32_t row = i / kPacksOfStep;
    const uint32_t pack = i % kPacksOfStep;
    Columns values{};
    if (first_row + row < row_count) {
      values = load_columns(data + (first_row + row) * row_stride, k + pack * kColumnsAtOnce,
                            column_count);
    }
    uint32_t* const words = to + row * kStoredWords + pack * 2;
    words[0] = word_of<Value>(values.at[0], values.at[1]);
    words[1] = word_of<Value>(values.at[2], values.at[3]);
  }
}

// What mma.h says a lane holds, from a tile whose rows are W's or x's.
__device__ MmaA load_a(const uint32_t* tile, uint32_t first_row, uint32_t k_word) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t* const row = tile + (first_row + lane / 4) * kStoredWords + k_word + lane % 4;
  const uint32_t* const next = row + 8 * kStoredWords;
  return {{row[0], next[0], row[4], next[4]}};
}

__device__ MmaB load_b(const uint32_t* tile, uint32_t first_row, uint32_t k_word) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t* const row = tile + (first_row + lane / 4) * kStoredWords + k_word + lane % 4;
  return {{row[0], row[4]}};
}

__device__ void store_sums(const MmaC& sums, uint32_t first_column, uint32_t first_row,
                           uint32_t columns, const float* bias, const View& out) {
  const uint32_t lane = threadIdx.x % kWarp;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t column = first_column + lane / 4 + 8 * (i / 2);
    const uint32_t row = first_row + 2 * (lane % 4) + i % 2;
    if (row >= out.row_count || column >= columns) continue;
    row_of(out, row)[column] = sums.values[i] + (bias == nullptr ? 0.0F : bias[column]);
  }
}

// kGroups: of kMmaTokens rows of x.
template <typename Value, uint32_t kGroups>
__global__ void __launch_bounds__(kThreads)
    multiply_on_tensor_cores(View x, WeightMatrix weight, View out, uint32_t columns) {
  constexpr uint32_t kTileTokens = kGroups * kMmaTokens;
  uint32_t* const w_tile = dynamic_shared<uint32_t>();
  uint32_t* const x_tile = w_tile + kTileRows * kStoredWords;
  const uint32_t first_token = blockIdx.x * kTileTokens;
  const uint32_t first_column = blockIdx.y * kTileRows;
  const uint32_t warp_rows = threadIdx.x / kWarp * kMmaRows;
  MmaC sums[kGroups] = {};
  for (uint32_t k = 0; k < weight.in_features; k += kStep) {
    load_tile<Value>(static_cast<const Value*>(weight.data), weight.in_features, first_column,
                     columns, k, weight.in_features, kTileRows, w_tile);
    load_tile<Value>(x.data, x.row_stride, first_token, x.row_count, k, weight.in_features,
                     kTileTokens, x_tile);
    __syncthreads();
    for (uint32_t word = 0; word < kStepWords; word += kMmaStep / 2) {
      const MmaA a = load_a(w_tile, warp_rows, word);
      for (uint32_t group = 0; group < kGroups; ++group) {
        multiply_add<Value>(sums[group], a, load_b(x_tile, group * kMmaTokens, word));
      }
    }
    __syncthreads();
  }
  for (uint32_t group = 0; group < kGroups; ++group) {
    store_sums(sums[group], first_column + warp_rows, first_token + group * kMmaTokens, columns,
               weight.bias, out);
  }
}

template <typename Value, uint32_t kGroups>
void launch_tiles(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) {
  constexpr uint32_t kTileTokens = kGroups * kMmaTokens;
  const uint32_t columns = min(out.column_count, weight.out_features);
  launch(multiply_on_tensor_cores<Value, kGroups>,
         dim3{divided_up(x.row_count, kTileTokens), divided_up(columns, kTileRows)}, dim3{kThreads},
         sizeof(uint32_t) * kStoredWords * (kTileRows + kTileTokens), queue, x, weight, out,
         columns);
}

template <typename Value>
void multiply_halves(const View& x, const WeightMatrix& weight, const View& out, Queue& queue) {
  if (x.row_count <= kMmaTokens) {
    launch_tiles<Value, 1>(x, weight, out, queue);
  } else {
    launch_tiles<Value, 8>(x, weight, out, queue);
  }
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
