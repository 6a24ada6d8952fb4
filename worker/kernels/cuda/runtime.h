// What of the CUDA runtime a CudaDevice uses, each thing owned by an object: streams, memory,
// events. Errors are Status with CUDA's name for them. Threads: the one whose GPU was chosen with
// choose_gpu().
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "common/status.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

// "upload: cudaErrorNoDevice: no CUDA-capable device is detected"; what cudaSuccess gives is OK.
// Memory that is not there is kResourceExhausted, all else kUnavailable.
[[nodiscard]] Status status_of(cudaError_t error, const std::string& doing);

// Makes the GPU of this number that of the calling thread. kFailedPrecondition, saying what to do:
// no driver, no such GPU, or one older than sm_80.
[[nodiscard]] Status choose_gpu(int ordinal);

// Owns what a handle stands for: Release is called for the last one.
template <typename Handle, cudaError_t (*Release)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    // At the end nobody is left who could do anything about an error.
    if (handle_ != nullptr) static_cast<void>(Release(handle_));
  }
  [[nodiscard]] Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

// A stream and what is queued on it. Movable; the queue's address is not kept by anyone.
class Stream {
 public:
  [[nodiscard]] static StatusOr<Stream> create();
  [[nodiscard]] Queue& queue() { return queue_; }
  // Until all that is queued has happened. The first error since the queue's last forget().
  [[nodiscard]] Status wait();

 private:
  Owned<cudaStream_t, cudaStreamDestroy> stream_;
  Queue queue_;
};

// Bytes of device memory, aligned to 256. What is in them is not defined.
class DeviceBuffer {
 public:
  // kResourceExhausted naming what the memory is for, how much it is and how much is free.
  [[nodiscard]] static StatusOr<DeviceBuffer> allocate(std::size_t bytes, const std::string& what);
  DeviceBuffer() = default;
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
  [[nodiscard]] std::size_t size() const { return memory_.get() == nullptr ? 0 : size_; }

 private:
  Owned<void*, cudaFree> memory_;
  std::size_t size_ = 0;
};

// Bytes of host memory that a GPU reads and writes by itself, while the host does something else.
class PinnedBuffer {
 public:
  [[nodiscard]] static StatusOr<PinnedBuffer> allocate(std::size_t bytes, const std::string& what);
  PinnedBuffer() = default;
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
  [[nodiscard]] std::size_t size() const { return memory_.get() == nullptr ? 0 : size_; }

 private:
  Owned<void*, cudaFreeHost> memory_;
  std::size_t size_ = 0;
};

// A point in a stream.
class Event {
 public:
  [[nodiscard]] static StatusOr<Event> create();
  void record(Queue& queue);
  // Until what was queued before record() has happened; at once if nothing was recorded.
  [[nodiscard]] Status wait() const;

 private:
  Owned<cudaEvent_t, cudaEventDestroy> event_;
};

// Copies are queued: the host's side must stay as it is until a wait says that they have happened.
// Rows of bytes that lie `pitch` apart on each side, less than 2 GiB, between any two memories.
struct RowCopy {
  void* to = nullptr;
  std::size_t to_pitch = 0;
  const void* from = nullptr;
  std::size_t from_pitch = 0;
  std::size_t row_bytes = 0;
  std::size_t row_count = 0;
};
void queue_copy(const RowCopy& copy, Queue& queue);
void queue_copy(void* to, const void* from, std::size_t bytes, Queue& queue);
void queue_zeros(void* to, std::size_t bytes, Queue& queue);

}  // namespace trireme::worker::cuda
