#include "worker/kernels/cpu/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "worker/memory_budget.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr uint64_t kCacheLineBytes = 64;
// Of an image: a call of the kernel for many costs less than one for each, whatever cores do
// besides.
constexpr uint64_t kPiecesAtOnce = 16;
constexpr uint64_t kPiecesAheadMax = 32;

// Large regions start where a huge page can.
void* map_aligned(uint64_t byte_count) {
  const uint64_t spare = byte_count >= kHugePageBytes ? kHugePageBytes : 0;
  void* mapped = mmap(nullptr, byte_count + spare, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || spare == 0) return mapped;
  auto* begin = static_cast<std::byte*>(mapped);
  const uint64_t before = -reinterpret_cast<uintptr_t>(begin) % kHugePageBytes;
  if (before > 0) munmap(begin, before);
  // munmap takes whole pages; up to one of them stays mapped behind the region, untouched.
  const uint64_t end = (before + byte_count + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (end < byte_count + spare) munmap(begin + end, byte_count + spare - end);
  return begin + before;
}

Status does_not_fit(const char* what, uint64_t byte_count, uint64_t available) {
  return error(StatusCode::kResourceExhausted, "%s: %.1f MiB needed, %.1f MiB of memory available",
               what, static_cast<double>(byte_count) / (1 << 20),
               static_cast<double>(available) / (1 << 20));
}

uint64_t whole_lines(uint64_t byte_count) {
  return (byte_count + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes;
}

}  // namespace

uint64_t available_bytes() {
  const uint64_t available = available_memory("");
  return available == 0 ? UINT64_MAX : available;
}

StatusOr<HostMemory> HostMemory::allocate(uint64_t byte_count, const char* what) {
  if (byte_count == 0) return HostMemory();
  // An untouched mapping costs nothing, so mmap alone would promise what the machine does not have.
  const uint64_t available = byte_count >= kHugePageBytes ? available_bytes() : UINT64_MAX;
  void* data = byte_count <= available ? map_aligned(byte_count) : MAP_FAILED;
  if (data == MAP_FAILED) return does_not_fit(what, byte_count, available);
  if (byte_count >= kHugePageBytes) (void)madvise(data, byte_count, MADV_HUGEPAGE);
  HostMemory memory;
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = byte_count;
  return memory;
}

HostMemory::~HostMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

void HostMemory::give_back() noexcept {
  if (data_ != nullptr) (void)madvise(data_, size_, MADV_DONTNEED);
}

uint64_t HostMemory::resident_bytes() const {
  std::vector<unsigned char> pages((size_ + kPageBytes - 1) / kPageBytes);
  if (pages.empty() || mincore(data_, size_, pages.data()) != 0) return 0;
  const auto resident = std::ranges::count_if(pages, [](unsigned char p) { return (p & 1) != 0; });
  return kPageBytes * static_cast<uint64_t>(resident);
}

StatusOr<std::byte*> HostArena::take(uint64_t byte_count, const char* what) {
  if (image_ != nullptr) return take_of_image(byte_count, what);
  if (regions_.empty() || regions_.back().size() - used_ < byte_count) {
    // Untouched pages of a region are not memory, so only what is asked for must be there.
    auto region = HostMemory::allocate(std::max(byte_count, region_bytes_), what);
    if (!region.ok()) region = HostMemory::allocate(byte_count, what);
    if (!region.ok()) return region.status();
    regions_.push_back(std::move(region).value());
    used_ = 0;
  }
  std::byte* taken = regions_.back().data() + used_;
  const uint64_t left = regions_.back().size() - used_;
  used_ += std::min(whole_lines(byte_count), left);
  return taken;
}

StatusOr<std::byte*> HostArena::take_of_image(uint64_t byte_count, const char* what) {
  const uint64_t end = used_ + whole_lines(byte_count);
  if (image_->is_made()) {
    if (end > image_->size()) {
      return error(StatusCode::kInternal, "%s: another process made an image of %u bytes only",
                   what, image_->size());
    }
  } else {
    TRIREME_RETURN_IF_ERROR(take_pieces(end, what));
  }
  return image_->data() + std::exchange(used_, end);
}

Status HostArena::take_pieces(uint64_t end, const char* what) {
  constexpr uint64_t kPieceBytes = shm::SharedImage::kPieceBytes;
  uint64_t wanted = (end + kPieceBytes - 1) / kPieceBytes;
  if (wanted <= pieces_) return absl::OkStatus();
  const uint64_t bytes = (wanted - pieces_) * kPieceBytes;
  const uint64_t available = available_bytes();
  if (bytes > available) return does_not_fit(what, bytes, available);
  const uint64_t ahead = pieces_ + std::min(pieces_, kPiecesAheadMax);
  if (available / 2 > (ahead - pieces_) * kPieceBytes) wanted = std::max(wanted, ahead);
  TRIREME_RETURN_IF_ERROR(image_->grow(wanted));
  std::atomic<bool> is_short{false};
  const auto runs = static_cast<uint32_t>((wanted - pieces_ + kPiecesAtOnce - 1) / kPiecesAtOnce);
  pool_->run(runs, [&](uint32_t run) {
    const uint64_t first = pieces_ + run * kPiecesAtOnce;
    if (image_->take_pieces(first, std::min(kPiecesAtOnce, wanted - first))) return;
    is_short.store(true, std::memory_order_relaxed);
  });
  if (is_short.load(std::memory_order_relaxed)) return does_not_fit(what, bytes, available_bytes());
  pieces_ = wanted;
  return absl::OkStatus();
}

Status HostArena::finish() {
  if (image_ == nullptr) return absl::OkStatus();
  if (!image_->is_made()) return image_->finish(used_);
  if (used_ == image_->size()) return absl::OkStatus();
  return error(StatusCode::kInternal, "another process's image has %u bytes of weights, not %u",
               image_->size(), used_);
}

}  // namespace trireme::worker::cpu
