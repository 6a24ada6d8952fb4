#include "worker/kernels/cuda/kv_cache.h"

#include "worker/kernels/cuda/int8_codes.h"
#include "worker/kernels/cuda/kv_address.h"
#include "worker/kernels/cuda/numbers.h"
#include "worker/kernels/cuda/reduce.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kThreads = 128;

// A block turns the heads of the token blockIdx.x.
__device__ void rotate_token(const View& heads, uint32_t head_size, const TokenAngles& angles) {
  float* const row = row_of(heads, blockIdx.x);
  const std::size_t first_angle = std::size_t{blockIdx.x} * angles.pair_count;
  const uint32_t pairs = heads.column_count / head_size * angles.pair_count;
  for (uint32_t i = threadIdx.x; i < pairs; i += kThreads) {
    const uint32_t pair = i % angles.pair_count;
    float* const head = row + i / angles.pair_count * head_size;
    const float cosine = angles.cosines[first_angle + pair];
    const float sine = angles.sines[first_angle + pair];
    const float a = head[pair];
    const float b = head[pair + angles.pair_count];
    head[pair] = a * cosine - b * sine;
    head[pair + angles.pair_count] = b * cosine + a * sine;
  }
}

// Row k or v of the token blockIdx.x as codes, with a scale for each head. A warp has a head.
__device__ void append_codes(const KvLayer& layer, const float* row, uint32_t slot, bool is_value) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t place = slot % layer.block_tokens;
  for (uint32_t head = threadIdx.x / kWarp; head < layer.kv_head_count; head += kThreads / kWarp) {
    const float* const values = row + head * layer.head_size;
    uint32_t largest = 0;
    for (uint32_t i = lane; i < layer.head_size; i += kWarp) {
      largest = max(largest, magnitude_bits(values[i]));
    }
    const Int8Codes codes(warp_max(largest));
    const KvAddress<int8_t> at(layer, slot / layer.block_tokens, head);
    int8_t* const to = is_value ? at.v_of(place) : at.k_of(place);
    for (uint32_t i = lane; i < layer.head_size; i += kWarp) {
      to[i] = static_cast<int8_t>(codes.code(values[i]));
    }
    if (lane == 0) *(is_value ? at.v_scale_of(place) : at.k_scale_of(place)) = codes.scale();
  }
}

// A block stores the K and V of the token blockIdx.x.
template <typename Value>
__device__ void append_token(const KvLayer& layer, const View& k, const View& v,
                             const uint32_t* slots) {
  const uint32_t slot = slots[blockIdx.x];
  const float* const k_row = row_of(k, blockIdx.x);
  const float* const v_row = row_of(v, blockIdx.x);
  if constexpr (KvAddress<Value>::kHasScales) {
    append_codes(layer, k_row, slot, false);
    append_codes(layer, v_row, slot, true);
  } else {
    for (uint32_t i = threadIdx.x; i < k.column_count; i += kThreads) {
      const uint32_t head = i / layer.head_size;
      const uint32_t column = i % layer.head_size;
      const KvAddress<Value> at(layer, slot / layer.block_tokens, head);
      at.k_of(slot % layer.block_tokens)[column] = from_float<Value>(k_row[i]);
      at.v_of(slot % layer.block_tokens)[column] = from_float<Value>(v_row[i]);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    rotate_tokens(View heads, uint32_t head_size, TokenAngles angles) {
  rotate_token(heads, head_size, angles);
}

template <typename Value>
__global__ void __launch_bounds__(kThreads)
    append_tokens(KvLayer layer, View k, View v, const uint32_t* slots) {
  append_token<Value>(layer, k, v, slots);
}

template <typename Value>
__global__ void __launch_bounds__(kThreads)
    rotate_and_append_tokens(KvLayer layer, View q_and_k, View k, View v, TokenAngles angles,
                             const uint32_t* slots) {
  rotate_token(q_and_k, layer.head_size, angles);
  __syncthreads();
  append_token<Value>(layer, k, v, slots);
}

}  // namespace

void rotate(const View& heads, uint32_t head_size, const TokenAngles& angles, Queue& queue) {
  launch(rotate_tokens, dim3{heads.row_count}, dim3{kThreads}, 0, queue, heads, head_size, angles);
}

void append_kv(const KvLayer& layer, const View& k, const View& v, const uint32_t* slots,
               Queue& queue) {
  with_kv_type_of(layer.element, [&](auto zero) {
    launch(append_tokens<decltype(zero)>, dim3{k.row_count}, dim3{kThreads}, 0, queue, layer, k, v,
           slots);
  });
}

void rotate_and_append(const KvLayer& layer, const View& q_and_k, const View& k, const View& v,
                       const TokenAngles& angles, const uint32_t* slots, Queue& queue) {
  with_kv_type_of(layer.element, [&](auto zero) {
    launch(rotate_and_append_tokens<decltype(zero)>, dim3{k.row_count}, dim3{kThreads}, 0, queue,
           layer, q_and_k, k, v, angles, slots);
  });
}

}  // namespace trireme::worker::cuda
