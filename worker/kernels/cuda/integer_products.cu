#include "worker/kernels/cuda/integer_products.h"

#include <type_traits>

#include "worker/kernels/cuda/int8_codes.h"
#include "worker/kernels/cuda/mma_tiles.h"
#include "worker/kernels/cuda/reduce.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kCodesPerWord = 4;
constexpr uint32_t kWordsAtOnce = 4;
constexpr uint32_t kPacksOfStep = kStepWords / kWordsAtOnce;
using Words = Pack<uint32_t, kWordsAtOnce>;

// A block has the row blockIdx.x.
__global__ void __launch_bounds__(kThreads)
    quantize_row(View x, uint32_t column_count, CodedActivations to) {
  const float* const row = row_of(x, blockIdx.x);
  uint32_t largest = 0;
  for (uint32_t i = threadIdx.x; i < column_count; i += kThreads) {
    largest = max(largest, magnitude_bits(row[i]));
  }
  const Int8Codes codes(block_max(largest));
  auto* const words =
      reinterpret_cast<uint32_t*>(to.codes + std::size_t{blockIdx.x} * to.row_bytes);
  for (uint32_t i = threadIdx.x; i < to.row_bytes / kCodesPerWord; i += kThreads) {
    uint32_t word = 0;
    for (uint32_t k = 0; k < kCodesPerWord; ++k) {
      const uint32_t column = i * kCodesPerWord + k;
      if (column >= column_count) continue;
      word |= (static_cast<uint32_t>(codes.code(row[column])) & 0xff) << (8 * k);
    }
    words[i] = word;
  }
  if (threadIdx.x == 0) to.scales[blockIdx.x] = codes.scale();
}

// The words from word_begin on of some rows; zeros where there is none.
__device__ void load_words(const std::byte* rows, uint32_t row_bytes, uint32_t row_count,
                           uint32_t word_begin, uint32_t tile_rows, uint32_t* to) {
  const uint32_t row_words = row_bytes / kCodesPerWord;
  for (uint32_t i = threadIdx.x; i < tile_rows * kPacksOfStep; i += kMmaThreads) {
    const uint32_t row = i / kPacksOfStep;
    const uint32_t word = word_begin + i % kPacksOfStep * kWordsAtOnce;
    Words words{};
    if (row < row_count && word < row_words) {
      words = reinterpret_cast<const Words*>(rows + static_cast<std::size_t>(row) *
                                                        row_bytes)[word / kWordsAtOnce];
    }
    uint32_t* const stored = to + row * kStoredWords + i % kPacksOfStep * kWordsAtOnce;
    for (uint32_t k = 0; k < kWordsAtOnce; ++k) stored[k] = words.at[k];
  }
}

// kGroups: of kMmaTokens rows of x.
template <uint32_t kGroups>
__global__ void __launch_bounds__(kMmaThreads)
    multiply_tiles_of_codes(CodedActivations x, WeightMatrix weight, View out, uint32_t columns) {
  constexpr uint32_t kTileTokens = kGroups * kMmaTokens;
  uint32_t* const w_tile = dynamic_shared<uint32_t>();
  uint32_t* const x_tile = w_tile + kTileRows * kStoredWords;
  const uint32_t first_token = blockIdx.x * kTileTokens;
  const uint32_t first_column = blockIdx.y * kTileRows;
  const uint32_t warp_rows = threadIdx.x / kWarp * kMmaRows;
  const auto* const w_rows = static_cast<const std::byte*>(weight.data) +
                             static_cast<std::size_t>(first_column) * weight.row_bytes;
  const std::byte* const x_rows = x.codes + static_cast<std::size_t>(first_token) * x.row_bytes;
  MmaCodeSums sums[kGroups] = {};
  for (uint32_t k = 0; k < weight.row_bytes / kCodesPerWord; k += kStepWords) {
    load_words(w_rows, weight.row_bytes, columns - first_column, k, kTileRows, w_tile);
    load_words(x_rows, x.row_bytes, x.row_count - first_token, k, kTileTokens, x_tile);
    __syncthreads();
    for (uint32_t word = 0; word < kStepWords; word += kMmaWords) {
      const MmaA a = load_a(w_tile, warp_rows, word);
      for (uint32_t group = 0; group < kGroups; ++group) {
        multiply_add(sums[group], a, load_b(x_tile, group * kMmaTokens, word));
      }
    }
    __syncthreads();
  }
  for (uint32_t group = 0; group < kGroups; ++group) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t column = first_column + warp_rows + c_column(i);
      const uint32_t row = first_token + group * kMmaTokens + c_row(i);
      if (row >= x.row_count || column >= columns) continue;
      const float bias = weight.bias == nullptr ? 0.0F : weight.bias[column];
      const float scale = weight.scales[column] * x.scales[row];
      row_of(out, row)[column] = static_cast<float>(sums[group].values[i]) * scale + bias;
    }
  }
}

}  // namespace

void quantize_rows(const View& x, uint32_t column_count, const CodedActivations& to, Queue& queue) {
  launch(quantize_row, dim3{x.row_count}, dim3{kThreads}, 0, queue, x, column_count, to);
}

void multiply_codes(const CodedActivations& x, const WeightMatrix& weight, const View& out,
                    Queue& queue) {
  const uint32_t columns = min(out.column_count, weight.out_features);
  with_token_groups(x.row_count, [&](auto groups) {
    constexpr uint32_t kTileTokens = decltype(groups)::value * kMmaTokens;
    launch(multiply_tiles_of_codes<decltype(groups)::value>,
           dim3{divided_up(x.row_count, kTileTokens), divided_up(columns, kTileRows)},
           dim3{kMmaThreads}, tile_bytes(kTileTokens), queue, x, weight, out, columns);
  });
}

}  // namespace trireme::worker::cuda
