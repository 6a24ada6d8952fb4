// The part of CUDA that this folder uses, for a machine that has neither a GPU nor nvcc: the same
// names, in ordinary C++. toolkit.h includes it in the place of NVIDIA's headers.
//
// Kernels run in BlockRunner. Device memory is plain heap, so that the address sanitizer sees each
// access that is out of bounds; it begins as NaNs. Streams are lazy: what is queued, copies too,
// runs when somebody waits, as late as CUDA allows. So a missing wait shows as values that are not
// there yet, and host memory that is written again too early as wrong ones.
//
// A failure (a barrier that is never complete) comes out of the next wait as
// cudaErrorLaunchFailure, and as a GPU's it stays until on_host::forget_failures();
// cudaGetErrorString() says what it was.
// Threads: streams, runner and failures are those of the calling thread.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

#include "worker/kernels/cuda/on_host/block_runner.h"
#include "worker/kernels/element.h"

// --- The language. ---

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after the other.
#define __shared__ static thread_local

struct dim3 {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  using trireme::worker::cuda::on_host::BlockRunner;
  BlockRunner::of_this_thread().wait_for_block({file, line});
}

inline void __syncwarp(uint32_t lanes = 0xffffffffU, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  using trireme::worker::cuda::on_host::BlockRunner;
  static_cast<void>(BlockRunner::of_this_thread().exchange(lanes, 0, 0, {file, line}));
}

template <typename Value>
[[nodiscard]] Value __shfl_sync(uint32_t lanes, Value value, int source,
                                const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(sizeof(Value) == 4, "a lane gives 32 bits");
  using trireme::worker::cuda::on_host::BlockRunner;
  const uint64_t received = BlockRunner::of_this_thread().exchange(
      lanes, std::bit_cast<uint32_t>(value), static_cast<uint32_t>(source), {file, line});
  return std::bit_cast<Value>(static_cast<uint32_t>(received));
}

template <typename Value>
[[nodiscard]] Value __shfl_xor_sync(uint32_t lanes, Value value, int lane_mask,
                                    const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
  const uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const auto source = static_cast<int>((thread % 32) ^ static_cast<uint32_t>(lane_mask));
  return __shfl_sync(lanes, value, source, file, line);
}

// --- Numbers. ---

[[nodiscard]] inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
[[nodiscard]] inline uint32_t max(uint32_t a, uint32_t b) { return a < b ? b : a; }

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half {
  uint16_t bits;
};

[[nodiscard]] inline float __bfloat162float(__nv_bfloat16 value) {
  return trireme::worker::float_of_bfloat16(value.bits);
}
[[nodiscard]] inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return {trireme::worker::bfloat16_of(value)};
}
[[nodiscard]] inline float __half2float(__half value) {
  return trireme::worker::float_of_float16(value.bits);
}
[[nodiscard]] inline __half __float2half_rn(float value) {
  return {trireme::worker::float16_of(value)};
}
[[nodiscard]] inline uint32_t __float_as_uint(float value) {
  return std::bit_cast<uint32_t>(value);
}
[[nodiscard]] inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
// To the nearest, halves to even.
[[nodiscard]] inline int __float2int_rn(float value) {
  return static_cast<int>(std::nearbyint(value));
}
// Rounded twice here, once on a GPU; every CPU has it, and quickly.
[[nodiscard]] inline float __fmaf_rn(float a, float b, float c) { return a * b + c; }

// --- The runtime. ---

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
};
[[nodiscard]] const char* cudaGetErrorName(cudaError_t error);
[[nodiscard]] const char* cudaGetErrorString(cudaError_t error);

enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};
[[nodiscard]] cudaError_t cudaGetDeviceCount(int* count);
[[nodiscard]] cudaError_t cudaSetDevice(int device);
[[nodiscard]] cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
[[nodiscard]] cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);

struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUevent_st;
using cudaEvent_t = CUevent_st*;
inline constexpr unsigned int cudaStreamNonBlocking = 1;
inline constexpr unsigned int cudaEventDisableTiming = 2;
[[nodiscard]] cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
[[nodiscard]] cudaError_t cudaStreamSynchronize(cudaStream_t stream);
[[nodiscard]] cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
[[nodiscard]] cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
[[nodiscard]] cudaError_t cudaEventSynchronize(cudaEvent_t event);

enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
[[nodiscard]] cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
[[nodiscard]] cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);
[[nodiscard]] cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes,
                                          cudaMemcpyKind kind, cudaStream_t stream);
[[nodiscard]] cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                                            std::size_t from_pitch, std::size_t row_bytes,
                                            std::size_t row_count, cudaMemcpyKind kind,
                                            cudaStream_t stream);
[[nodiscard]] cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes,
                                          cudaStream_t stream);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace trireme::worker::cuda::on_host {

// A GPU of the smallest kind that is compiled for: what a block may have when it asks, and when it
// does not.
inline constexpr std::size_t kSharedBytesMax = std::size_t{99} << 10;
inline constexpr std::size_t kSharedBytesUnasked = std::size_t{48} << 10;

// Bounds: 128 GiB are the device's, so that a size no machine has is refused here too.
inline constexpr std::size_t kMemoryBytes = std::size_t{128} << 30;

[[nodiscard]] cudaError_t queue_launch(const cudaLaunchConfig_t& config, const void* kernel,
                                       std::function<void()> thread);
[[nodiscard]] cudaError_t allow_shared_memory(const void* kernel, int bytes);
void forget_failures();

}  // namespace trireme::worker::cuda::on_host

template <typename... Parameters>
[[nodiscard]] cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute,
                                               int value) {
  return trireme::worker::cuda::on_host::allow_shared_memory(reinterpret_cast<const void*>(kernel),
                                                             value);
}

template <typename... Parameters, typename... Arguments>
[[nodiscard]] cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                                             void (*kernel)(Parameters...),
                                             Arguments&&... arguments) {
  return trireme::worker::cuda::on_host::queue_launch(
      *config, reinterpret_cast<const void*>(kernel),
      [kernel, values = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] {
        std::apply(kernel, values);
      });
}

namespace trireme::worker::cuda {

template <typename Value>
[[nodiscard]] Value* dynamic_shared() {
  return reinterpret_cast<Value*>(on_host::BlockRunner::of_this_thread().shared_memory());
}

}  // namespace trireme::worker::cuda
