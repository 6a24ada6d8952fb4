#include "worker/kernels/cuda/on_host/cuda_on_host.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <vector>

#include "common/check.h"

struct CUstream_st {
  std::deque<std::function<void()>> work;
  uint64_t done_count = 0;  // Of all that was ever queued.

  void run_until(uint64_t count) {
    while (done_count < count) {
      const std::function<void()> first = std::move(work.front());
      work.pop_front();
      ++done_count;
      first();
    }
  }
  [[nodiscard]] uint64_t queued_count() const { return done_count + work.size(); }
};

struct CUevent_st {
  cudaStream_t stream = nullptr;
  uint64_t count = 0;  // It has happened when so much of the stream's work is done.
};

namespace trireme::worker::cuda::on_host {
namespace {

constexpr std::align_val_t kAlignment{256};

struct Machine {
  std::vector<cudaStream_t> streams;
  std::map<const void*, int> shared_bytes;  // That kernels may have.
  std::string failure;
};

Machine& machine() {
  static thread_local Machine machine;
  return machine;
}

cudaError_t state() { return machine().failure.empty() ? cudaSuccess : cudaErrorLaunchFailure; }

cudaError_t queue(cudaStream_t stream, std::function<void()> work) {
  stream->work.push_back([work = std::move(work)] {
    if (machine().failure.empty()) work();
  });
  return state();
}

cudaError_t allocate(void** memory, std::size_t bytes) {
  if (bytes > kMemoryBytes) return cudaErrorMemoryAllocation;
  *memory = ::operator new(bytes, kAlignment, std::nothrow);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  // As on a GPU nobody may count on zeros.
  constexpr std::size_t kGarbageBytesMax = std::size_t{1} << 24;
  std::memset(*memory, 0xff, std::min(bytes, kGarbageBytesMax));
  return state();
}

void finish_all() {
  for (const cudaStream_t stream : machine().streams) stream->run_until(stream->queued_count());
}

// Whatever is queued may use it still.
cudaError_t release(void* memory) {
  finish_all();
  ::operator delete(memory, kAlignment);
  return state();
}

}  // namespace

cudaError_t queue_launch(const cudaLaunchConfig_t& config, const void* kernel,
                         std::function<void()> thread) {
  const auto allowed = machine().shared_bytes.find(kernel);
  const std::size_t shared_bytes_max = allowed == machine().shared_bytes.end()
                                           ? kSharedBytesUnasked
                                           : static_cast<std::size_t>(allowed->second);
  if (config.dynamicSmemBytes > shared_bytes_max) return cudaErrorInvalidValue;
  const auto index_of = [](const dim3& size) { return Index3{size.x, size.y, size.z}; };
  const BlockRunner::Grid grid{.blocks = index_of(config.gridDim),
                               .threads = index_of(config.blockDim),
                               .shared_bytes = config.dynamicSmemBytes};
  return queue(config.stream, [grid, thread = std::move(thread)] {
    machine().failure = BlockRunner::of_this_thread().run(grid, thread);
  });
}

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kSharedBytesMax) return cudaErrorInvalidValue;
  machine().shared_bytes[kernel] = bytes;
  return state();
}

void forget_failures() { machine().failure.clear(); }

}  // namespace trireme::worker::cuda::on_host

namespace on_host = trireme::worker::cuda::on_host;
using on_host::machine;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
  }
  return "unknown error";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorLaunchFailure:
      return machine().failure.c_str();
  }
  return "unknown error";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return on_host::state();
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? on_host::state() : cudaErrorInvalidDevice;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 0;
  return on_host::state();
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = on_host::kMemoryBytes;
  *total = on_host::kMemoryBytes;
  return on_host::state();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  machine().streams.push_back(*stream);
  return on_host::state();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->run_until(stream->queued_count());
  std::erase(machine().streams, stream);
  delete stream;
  return on_host::state();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream->run_until(stream->queued_count());
  return on_host::state();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  return on_host::state();
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return on_host::state();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {stream, stream->queued_count()};
  return on_host::state();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->stream != nullptr) event->stream->run_until(event->count);
  return on_host::state();
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return on_host::allocate(memory, bytes);
}

cudaError_t cudaFree(void* memory) { return on_host::release(memory); }

cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  return on_host::allocate(memory, bytes);
}

cudaError_t cudaFreeHost(void* memory) { return on_host::release(memory); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return on_host::queue(stream, [=] { std::memcpy(to, from, bytes); });
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t row_bytes, std::size_t row_count,
                              cudaMemcpyKind, cudaStream_t stream) {
  if (row_bytes > to_pitch || row_bytes > from_pitch) return cudaErrorInvalidValue;
  const auto copy = [=] {
    for (std::size_t row = 0; row < row_count; ++row) {
      std::memcpy(static_cast<std::byte*>(to) + row * to_pitch,
                  static_cast<const std::byte*>(from) + row * from_pitch, row_bytes);
    }
  };
  return on_host::queue(stream, copy);
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return on_host::queue(stream, [=] { std::memset(memory, value, bytes); });
}
