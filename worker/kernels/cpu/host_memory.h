// HostMemory: a large zeroed region of memory, in huge pages where the system gives them.
// HostArena: pieces of such regions that live as long as the arena, so that many of middle size lie
// in huge pages too (four fifths of a small model's weights otherwise cost a walk of the page table
// every 4 KiB). Or pieces of one image that processes share: whoever takes the same sizes in the
// same order finds the same bytes. Pages of a private region are taken on first touch, those of an
// image by the threads of a pool. Threads: as any buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "common/shm/shared_image.h"
#include "common/status.h"
#include "worker/thread_pool.h"

namespace trireme::worker::cpu {

// available_memory() (worker/memory_budget.h); no bound where the kernel does not say.
[[nodiscard]] uint64_t available_bytes();

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

  // Its pages go back to the system; zeroed, they come again when they are touched.
  void give_back() noexcept;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  // Of it, what has been touched.
  [[nodiscard]] uint64_t resident_bytes() const;
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
  HostArena() = default;
  // Regions of this size, or as large as what is taken.
  explicit HostArena(uint64_t region_bytes) : region_bytes_(region_bytes) {}
  // Both outlive the arena.
  HostArena(shm::SharedImage& image, ThreadPool& pool)
      : image_(&image), pool_(&pool), used_(shm::SharedImage::kHeaderBytes) {}

  // Starts on a cache line; zeroed, or filled. Errors as HostMemory::allocate; kInternal when the
  // image that another process made has no room for it.
  [[nodiscard]] StatusOr<std::byte*> take(uint64_t byte_count, const char* what);
  template <typename T>
  [[nodiscard]] StatusOr<std::span<T>> take_span(std::size_t count, const char* what) {
    TRIREME_ASSIGN_OR_RETURN(std::byte* const bytes, take(sizeof(T) * count, what));
    return std::span<T>(reinterpret_cast<T*>(bytes), count);
  }

  // Another process has written what is taken: it must not be written again.
  [[nodiscard]] bool is_filled() const { return image_ != nullptr && image_->is_made(); }
  // All is taken and written. kInternal: the other process took more or less than we did.
  [[nodiscard]] Status finish();

 private:
  [[nodiscard]] StatusOr<std::byte*> take_of_image(uint64_t byte_count, const char* what);
  [[nodiscard]] Status take_pieces(uint64_t end, const char* what);

  uint64_t region_bytes_ = uint64_t{32} << 20;
  shm::SharedImage* image_ = nullptr;
  ThreadPool* pool_ = nullptr;
  std::vector<HostMemory> regions_;
  uint64_t used_ = 0;    // Of the image, or of the last region.
  uint64_t pieces_ = 0;  // Of the image, there to be written.
};

}  // namespace trireme::worker::cpu
