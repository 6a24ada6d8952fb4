// HostMemory: a large zeroed region of memory, in huge pages where the system gives them.
// HostArena: pieces of such regions that live as long as the arena, so that many of middle size lie
// in huge pages too (four fifths of a small model's weights otherwise cost a walk of the page table
// every 4 KiB). Pages are taken on first touch. Threads: as any buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

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

class HostArena {
 public:
  // Starts on a cache line. Errors as HostMemory::allocate.
  [[nodiscard]] StatusOr<std::byte*> take(uint64_t byte_count, const char* what);

 private:
  std::vector<HostMemory> regions_;
  uint64_t used_ = 0;  // Of the last region.
};

}  // namespace trireme::worker::cpu
