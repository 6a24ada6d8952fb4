// One head of one block of the KV cache (kv_cache.h). Device code.
#pragma once

#include "worker/kernels/cuda/kv_cache.h"
#include "worker/kernels/cuda/launch.h"

namespace trireme::worker::cuda {

template <typename Value>
class KvAddress {
 public:
  __device__ KvAddress(const KvLayer& layer, uint32_t block, uint32_t head)
      : head_size_(layer.head_size), block_values_(layer.head_size * layer.block_tokens) {
    const std::size_t index = std::size_t{block} * layer.kv_head_count + head;
    k_ = reinterpret_cast<Value*>(layer.data) + index * 2 * block_values_;
  }
  // Of the token at this place in the block: head_size elements.
  [[nodiscard]] __device__ Value* k_of(uint32_t token) const { return k_ + token * head_size_; }
  [[nodiscard]] __device__ Value* v_of(uint32_t token) const { return k_of(token) + block_values_; }

 private:
  Value* k_;
  uint32_t head_size_;
  uint32_t block_values_;
};

}  // namespace trireme::worker::cuda
