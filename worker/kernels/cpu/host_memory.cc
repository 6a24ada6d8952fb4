#include "worker/kernels/cpu/host_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <memory>

namespace trireme::worker::cpu {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// MemAvailable of /proc/meminfo; no bound when the system does not say.
uint64_t available_bytes() {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen("/proc/meminfo", "re"));
  char line[128];
  while (file != nullptr && std::fgets(line, sizeof(line), file.get()) != nullptr) {
    unsigned long long kilobytes = 0;
    if (std::sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1) return kilobytes * 1024;
  }
  return UINT64_MAX;
}

}  // namespace

StatusOr<HostMemory> HostMemory::allocate(uint64_t byte_count, const char* what) {
  if (byte_count == 0) return HostMemory();
  // An untouched mapping costs nothing, so mmap alone would promise what the machine does not have.
  const uint64_t available = byte_count >= kHugePageBytes ? available_bytes() : UINT64_MAX;
  void* data = MAP_FAILED;
  if (byte_count <= available) {
    data = mmap(nullptr, byte_count, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (data == MAP_FAILED) {
    return error(
        StatusCode::kResourceExhausted, "%s: %.1f MiB needed, %.1f MiB of memory available", what,
        static_cast<double>(byte_count) / (1 << 20), static_cast<double>(available) / (1 << 20));
  }
  if (byte_count >= kHugePageBytes) (void)madvise(data, byte_count, MADV_HUGEPAGE);
  HostMemory memory;
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = byte_count;
  return memory;
}

HostMemory::~HostMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace trireme::worker::cpu
