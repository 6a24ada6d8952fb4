// HostMemory: a large zeroed region of memory, in huge pages where the system gives them.
// Pages are taken on first touch. Threads: as any buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/status.h"

namespace trireme::worker::cpu {

class HostMemory {
 public:
  // kResourceExhausted with `what`, the size asked for and the memory that is available.
  [[nodiscard]] static StatusOr<HostMemory> allocate(uint64_t byte_count, const char* what);

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  HostMemory& operator=(HostMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~HostMemory();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  template <typename T>
  [[nodiscard]] T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace trireme::worker::cpu
