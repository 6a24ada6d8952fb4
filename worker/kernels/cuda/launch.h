// How the kernels of this folder are launched and what they have in common. For .cu files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "worker/device_types.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffU;
// Of a grid in y and z; kernels whose rows may be more go round.
inline constexpr uint32_t kGridRowsMax = 65535;
// What a block has without asking.
inline constexpr std::size_t kSharedBytesUnasked = std::size_t{48} << 10;

[[nodiscard]] constexpr uint32_t divided_up(uint32_t value, uint32_t by) {
  return (value + by - 1) / by;
}

// kernel<<<grid, block, shared_bytes, stream>>>(arguments...), unless the queue has an error; an
// empty grid is nothing to do.
template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Queue& queue, const std::type_identity_t<Parameters>&... arguments) {
  if (!queue.is_usable() || grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > kSharedBytesUnasked) {
    queue.keep(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
    if (!queue.is_usable()) return;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = queue.stream;
  queue.keep(cudaLaunchKernelEx(&config, kernel, arguments...));
}

// Calls body with a zero of the type that `element` is stored as.
template <typename Body>
void with_type_of(Element element, const Body& body) {
  if (element == Element::kBfloat16) return body(__nv_bfloat16{});
  if (element == Element::kFloat16) return body(__half{});
  return body(float{});
}

}  // namespace trireme::worker::cuda
