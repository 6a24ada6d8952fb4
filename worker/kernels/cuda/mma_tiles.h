// The tiles in shared memory that tensor cores multiply: 64 rows of W, 16 to a warp, and 8 or 64
// rows of x, 32 words of K at a time. Device code.
#pragma once

#include <type_traits>

#include "worker/kernels/cuda/numbers.h"

namespace trireme::worker::cuda {

inline constexpr uint32_t kMmaWarps = 4;
inline constexpr uint32_t kMmaThreads = kMmaWarps * kWarp;
inline constexpr uint32_t kMmaRows = 16;   // Of W.
inline constexpr uint32_t kMmaTokens = 8;  // Rows of x.
inline constexpr uint32_t kMmaWords = 8;   // Along K.
inline constexpr uint32_t kTileRows = kMmaWarps * kMmaRows;
inline constexpr uint32_t kStepWords = 32;
// The rows that a warp reads at once lie in different banks: 4 more words for each.
inline constexpr uint32_t kStoredWords = kStepWords + 4;

[[nodiscard]] constexpr std::size_t tile_bytes(uint32_t tile_tokens) {
  return sizeof(uint32_t) * kStoredWords * (kTileRows + tile_tokens);
}

// What mma.h says a lane holds, from a tile whose rows are W's or x's.
__device__ inline MmaA load_a(const uint32_t* tile, uint32_t first_row, uint32_t k_word) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t* const row = tile + (first_row + lane / 4) * kStoredWords + k_word + lane % 4;
  const uint32_t* const next = row + 8 * kStoredWords;
  return {{row[0], next[0], row[4], next[4]}};
}

__device__ inline MmaB load_b(const uint32_t* tile, uint32_t first_row, uint32_t k_word) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t* const row = tile + (first_row + lane / 4) * kStoredWords + k_word + lane % 4;
  return {{row[0], row[4]}};
}

// Where value i of C belongs, in a part of out.
[[nodiscard]] __device__ inline uint32_t c_column(uint32_t i) {
  return threadIdx.x % kWarp / 4 + 8 * (i / 2);
}
[[nodiscard]] __device__ inline uint32_t c_row(uint32_t i) { return 2 * (threadIdx.x % 4) + i % 2; }

// Calls launch with the number of groups of kMmaTokens rows that suits so many rows of x.
template <typename Launch>
void with_token_groups(uint32_t row_count, const Launch& launch) {
  if (row_count <= kMmaTokens) return launch(std::integral_constant<uint32_t, 1>{});
  return launch(std::integral_constant<uint32_t, 8>{});
}

}  // namespace trireme::worker::cuda
