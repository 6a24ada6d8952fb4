// Where the K and V of tokens lie in device memory, and how they get there.
//
// One region; of each layer: [block][kv head][K: block_tokens · head_size | V: the same]. A token's
// K of one head are head_size neighbouring elements, as are its V. So a block of a layer is one
// piece, and a warp that reads a token's K reads neighbouring bytes. With int8 there are behind K
// and V of a head the scales, fp32: [block_tokens] of K, as many of V.
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// One layer's part. A block's index times block_tokens plus the place in it is a token's slot.
struct KvLayer {
  std::byte* data = nullptr;
  Element element = Element::kBfloat16;  // Any other too.
  uint32_t kv_head_count = 0;
  uint32_t head_size = 0;
  uint32_t block_tokens = 0;

  // Of K and V of one head, where scales may begin.
  [[nodiscard]] __host__ __device__ uint64_t value_bytes() const {
    const uint64_t size = element == Element::kFloat32 ? 4 : element == Element::kInt8 ? 1 : 2;
    return (2 * size * head_size * block_tokens + 3) / 4 * 4;
  }
  [[nodiscard]] __host__ __device__ uint64_t head_bytes() const {
    const bool has_scales = element == Element::kInt8;
    return value_bytes() + (has_scales ? 2 * sizeof(float) * block_tokens : 0);
  }
  [[nodiscard]] uint64_t block_bytes() const { return head_bytes() * kv_head_count; }
};

// How the heads of each token turn: pair i of a head is (i, i + pair_count), what is behind them
// stays. A pair's new values are two products and one sum each.
struct TokenAngles {
  const float* cosines = nullptr;  // [token_count][pair_count] in device memory, as sines.
  const float* sines = nullptr;
  uint32_t pair_count = 0;
};

// Turns all heads of head_size columns, in place.
void rotate(const View& heads, uint32_t head_size, const TokenAngles& angles, Queue& queue);
// Row i of k and v to slots[i] (device memory), rounded to the cache's element.
void append_kv(const KvLayer& layer, const View& k, const View& v, const uint32_t* slots,
               Queue& queue);
// rotate(q_and_k), then append_kv with its k.
void rotate_and_append(const KvLayer& layer, const View& q_and_k, const View& k, const View& v,
                       const TokenAngles& angles, const uint32_t* slots, Queue& queue);

}  // namespace trireme::worker::cuda
