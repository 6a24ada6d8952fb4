// One head of one block of the KV cache (kv_cache.h). Device code.
#pragma once

#include <type_traits>

#include "worker/kernels/cuda/kv_cache.h"
#include "worker/kernels/cuda/launch.h"

namespace trireme::worker::cuda {

// Value: what an element is stored as, int8_t with scales.
template <typename Value>
class KvAddress {
 public:
  static constexpr bool kHasScales = std::is_same_v<Value, int8_t>;

  __device__ KvAddress(const KvLayer& layer, uint32_t block, uint32_t head)
      : head_size_(layer.head_size), block_tokens_(layer.block_tokens) {
    const std::size_t index = std::size_t{block} * layer.kv_head_count + head;
    std::byte* const data = layer.data + index * layer.head_bytes();
    k_ = reinterpret_cast<Value*>(data);
    scales_ = reinterpret_cast<float*>(data + layer.value_bytes());
  }
  // Of the token at this place in the block: head_size elements.
  [[nodiscard]] __device__ Value* k_of(uint32_t token) const { return k_ + token * head_size_; }
  [[nodiscard]] __device__ Value* v_of(uint32_t token) const { return k_of(block_tokens_ + token); }
  // Where there are scales.
  [[nodiscard]] __device__ float* k_scale_of(uint32_t token) const { return scales_ + token; }
  [[nodiscard]] __device__ float* v_scale_of(uint32_t token) const {
    return scales_ + block_tokens_ + token;
  }

 private:
  Value* k_;
  float* scales_;
  uint32_t head_size_;
  uint32_t block_tokens_;
};

// Calls body with a zero of the type that elements of the cache are stored as.
template <typename Body>
void with_kv_type_of(Element element, const Body& body) {
  if (element == Element::kInt8) return body(int8_t{});
  with_type_of(element, body);
}

}  // namespace trireme::worker::cuda
