#include "worker/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/unique_fd.h"

namespace trireme::worker {
namespace {

Status unreadable(const std::string& path, int code) {
  return error(absl::ErrnoToStatusCode(code), "%s cannot be read: %s", path, std::strerror(code));
}

}  // namespace

StatusOr<MappedFile> MappedFile::open(const std::string& path) {
  // Not blocking: a pipe without a writer is refused, not waited for.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) return unreadable(path, errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return unreadable(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return error(StatusCode::kInvalidArgument, "%s is not a regular file", path);
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) return MappedFile(path, {});
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return unreadable(path, errno);
  return MappedFile(path, {static_cast<const std::byte*>(data), size});
}

MappedFile::MappedFile(std::string path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::release_pages() const {
  if (bytes_.empty()) return;
  (void)::madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

StatusOr<std::string> read_text_file(const std::string& path, std::size_t bytes_max) {
  TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() > bytes_max) {
    return error(StatusCode::kResourceExhausted, "%s has %u bytes, over the limit of %u", path,
                 bytes.size(), bytes_max);
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace trireme::worker
