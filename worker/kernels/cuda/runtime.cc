#include "worker/kernels/cuda/runtime.h"

namespace trireme::worker::cuda {
namespace {

constexpr int kCapabilityMajorMin = 8;
constexpr double kMebi = 1 << 20;

Status no_gpu(const std::string& why) {
  return error(StatusCode::kFailedPrecondition,
               "--device cuda: %s; nvidia-smi shows the GPUs that the driver has, --device cpu "
               "needs none",
               why);
}

}  // namespace

Status status_of(cudaError_t error_code, const std::string& doing) {
  if (error_code == cudaSuccess) return absl::OkStatus();
  const StatusCode code = error_code == cudaErrorMemoryAllocation ? StatusCode::kResourceExhausted
                                                                  : StatusCode::kUnavailable;
  return error(code, "%s: %s: %s", doing, cudaGetErrorName(error_code),
               cudaGetErrorString(error_code));
}

Status choose_gpu(int ordinal) {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess) {
    return no_gpu(absl::StrFormat("%s: %s", cudaGetErrorName(found), cudaGetErrorString(found)));
  }
  if (ordinal < 0 || ordinal >= count) {
    return no_gpu(absl::StrFormat("there is no GPU %d, they are 0 to %d", ordinal, count - 1));
  }
  TRIREME_RETURN_IF_ERROR(status_of(cudaSetDevice(ordinal), "choose a GPU"));
  int major = 0;
  int minor = 0;
  TRIREME_RETURN_IF_ERROR(
      status_of(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal),
                "ask a GPU what it is"));
  TRIREME_RETURN_IF_ERROR(
      status_of(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal),
                "ask a GPU what it is"));
  if (major < kCapabilityMajorMin) {
    return no_gpu(absl::StrFormat("GPU %d is sm_%d%d, the oldest that is supported is sm_%d0",
                                  ordinal, major, minor, kCapabilityMajorMin));
  }
  return absl::OkStatus();
}

StatusOr<Stream> Stream::create() {
  Stream stream;
  cudaStream_t handle = nullptr;
  TRIREME_RETURN_IF_ERROR(
      status_of(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "make a stream"));
  stream.stream_ = Owned<cudaStream_t, cudaStreamDestroy>(handle);
  stream.queue_.stream = handle;
  return stream;
}

Status Stream::wait() {
  queue_.keep(cudaStreamSynchronize(queue_.stream));
  return status_of(queue_.error, "the GPU's work");
}

StatusOr<DeviceBuffer> DeviceBuffer::allocate(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const cudaError_t allocated = cudaMalloc(&memory, bytes);
  if (allocated != cudaSuccess) {
    std::size_t free = 0;
    std::size_t total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = 0;
    return status_of(allocated, absl::StrFormat("%s: %.1f MiB of GPU memory, %.1f MiB are free",
                                                what, double(bytes) / kMebi, double(free) / kMebi));
  }
  DeviceBuffer buffer;
  buffer.memory_ = Owned<void*, cudaFree>(memory);
  buffer.size_ = bytes;
  return buffer;
}

StatusOr<PinnedBuffer> PinnedBuffer::allocate(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  TRIREME_RETURN_IF_ERROR(
      status_of(cudaMallocHost(&memory, bytes),
                absl::StrFormat("%s: %.1f MiB of pinned memory", what, double(bytes) / kMebi)));
  PinnedBuffer buffer;
  buffer.memory_ = Owned<void*, cudaFreeHost>(memory);
  buffer.size_ = bytes;
  return buffer;
}

StatusOr<Event> Event::create() {
  cudaEvent_t handle = nullptr;
  TRIREME_RETURN_IF_ERROR(
      status_of(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming), "make an event"));
  Event event;
  event.event_ = Owned<cudaEvent_t, cudaEventDestroy>(handle);
  return event;
}

void Event::record(Queue& queue) {
  if (queue.is_usable()) queue.keep(cudaEventRecord(event_.get(), queue.stream));
}

Status Event::wait() const {
  return status_of(cudaEventSynchronize(event_.get()), "the GPU's work");
}

void queue_copy(const RowCopy& copy, Queue& queue) {
  if (!queue.is_usable() || copy.row_bytes == 0 || copy.row_count == 0) return;
  queue.keep(cudaMemcpy2DAsync(copy.to, copy.to_pitch, copy.from, copy.from_pitch, copy.row_bytes,
                               copy.row_count, cudaMemcpyDefault, queue.stream));
}

void queue_copy(void* to, const void* from, std::size_t bytes, Queue& queue) {
  if (!queue.is_usable() || bytes == 0) return;
  queue.keep(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, queue.stream));
}

void queue_zeros(void* to, std::size_t bytes, Queue& queue) {
  if (!queue.is_usable() || bytes == 0) return;
  queue.keep(cudaMemsetAsync(to, 0, bytes, queue.stream));
}

}  // namespace trireme::worker::cuda
