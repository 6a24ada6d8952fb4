#include "common/shm/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace trireme::shm {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// What the kernel thinks it can give without swapping; 0 when it does not say.
std::size_t available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string name, unit;
  for (std::size_t kilobytes = 0; meminfo >> name >> kilobytes; std::getline(meminfo, unit)) {
    if (name == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

StatusOr<Mapping> Mapping::create(const std::string& name, std::size_t bytes) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.is_open()) {
    return error(StatusCode::kResourceExhausted, "memfd %s: %s", name, std::strerror(errno));
  }
  // Asking for too much would wake the kernel's out-of-memory killer before fallocate() fails.
  if (const std::size_t available = available_bytes(); available > 0 && bytes > available) {
    return error(StatusCode::kResourceExhausted,
                 "%d bytes of shared memory for %s: only %d bytes of memory are available", bytes,
                 name, available);
  }
  const auto size = static_cast<off_t>(bytes);
  if (::ftruncate(fd.get(), size) != 0 || ::fallocate(fd.get(), 0, 0, size) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) {
    return error(StatusCode::kResourceExhausted, "%d bytes of shared memory for %s: %s", bytes,
                 name, std::strerror(errno));
  }
  return map(std::move(fd), bytes);
}

StatusOr<Mapping> Mapping::attach(UniqueFd fd) {
  struct stat what {};
  if (::fstat(fd.get(), &what) != 0) {
    return error(StatusCode::kInvalidArgument, "shared memory descriptor %d: %s", fd.get(),
                 std::strerror(errno));
  }
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return error(StatusCode::kInvalidArgument,
                 "descriptor %d is not shared memory of ours: its size is not sealed", fd.get());
  }
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return map(std::move(fd), static_cast<std::size_t>(what.st_size));
}

StatusOr<Mapping> Mapping::map(UniqueFd fd, std::size_t bytes) {
  void* const base =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (base == MAP_FAILED) {
    return error(StatusCode::kResourceExhausted, "map %d bytes of shared memory: %s", bytes,
                 std::strerror(errno));
  }
  return Mapping(std::move(fd), {static_cast<std::byte*>(base), bytes});
}

Mapping::Mapping(Mapping&& other) noexcept
    : fd_(std::move(other.fd_)), bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this == &other) return *this;
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  fd_ = std::move(other.fd_);
  bytes_ = std::exchange(other.bytes_, {});
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace trireme::shm
