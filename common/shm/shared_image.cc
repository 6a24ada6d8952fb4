#include "common/shm/shared_image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace trireme::shm {
namespace {

constexpr uint64_t kMagic = 0x314567616D49'7254;  // "TrImage1"
constexpr off_t kPageBytes = 4096;
// Newer than Debian 12's headers.
constexpr int kMadvPopulateRead = 22;  // Linux 5.14
constexpr int kMadvCollapse = 25;      // Linux 6.1

struct Header {
  uint64_t magic = kMagic;
  uint64_t digest = 0;
  uint64_t size = 0;  // 0: not made.
  uint32_t sharers = 0;
  uint32_t unused = 0;
};
static_assert(sizeof(Header) <= SharedImage::kHeaderBytes);

uint64_t whole_pieces(uint64_t byte_count) {
  constexpr uint64_t kPiece = SharedImage::kPieceBytes;
  return (byte_count + kPiece - 1) / kPiece * kPiece;
}

Status no_memory(const char* what, int reason) {
  return error(StatusCode::kResourceExhausted, "shared memory: %s: %s", what,
               std::strerror(reason));
}

StatusOr<Header> read_header(int fd) {
  Header header;
  if (::pread(fd, &header, sizeof(header), 0) != sizeof(header) || header.magic != kMagic) {
    return error(StatusCode::kInvalidArgument, "descriptor %d is not a shared image", fd);
  }
  return header;
}

Status write_header(int fd, const Header& header) {
  if (::pwrite(fd, &header, sizeof(header), 0) == sizeof(header)) return absl::OkStatus();
  return no_memory("header", errno);
}

bool lock(int fd, int command, short type) {
  struct flock region {};
  region.l_type = type;
  region.l_whence = SEEK_SET;
  region.l_len = sizeof(Header);
  while (::fcntl(fd, command, &region) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

// More than this no image can be.
uint64_t machine_bytes() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

StatusOr<UniqueFd> SharedImage::create(const std::string& name, uint32_t sharers) {
  rlimit file_size{};
  if (::getrlimit(RLIMIT_FSIZE, &file_size) == 0 && file_size.rlim_cur != RLIM_INFINITY) {
    return error(StatusCode::kUnimplemented, "the size of files is limited (ulimit -f)");
  }
  SharedImage probe(UniqueFd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (!probe.fd_.is_open()) return no_memory("memfd", errno);
  TRIREME_RETURN_IF_ERROR(probe.grow(1));
  TRIREME_RETURN_IF_ERROR(probe.map(kPieceBytes, PROT_READ | PROT_WRITE));
  if (::fallocate(probe.fd_.get(), 0, 0, kPageBytes) != 0) return no_memory("page", errno);
  if (::madvise(probe.data_, kPieceBytes, kMadvCollapse) != 0 && errno != ENOMEM &&
      errno != EAGAIN && errno != EBUSY) {
    return error(StatusCode::kUnimplemented, "no huge pages (MADV_COLLAPSE, Linux 6.1): %s",
                 std::strerror(errno));
  }
  TRIREME_RETURN_IF_ERROR(write_header(probe.fd_.get(), {.sharers = sharers}));
  if (::ftruncate(probe.fd_.get(), kPageBytes) != 0) return no_memory("size", errno);
  return std::move(probe.fd_);
}

StatusOr<SharedImage> SharedImage::open(UniqueFd fd, uint64_t digest,
                                        const std::function<void()>& waiting) {
  SharedImage image(std::move(fd));
  const int own = image.fd_.get();
  ::fcntl(own, F_SETFD, FD_CLOEXEC);
  TRIREME_ASSIGN_OR_RETURN(Header header, read_header(own));
  image.sharers_ = header.sharers;
  if (header.size == 0) {
    if (!lock(own, F_SETLK, F_WRLCK)) {
      waiting();
      if (!lock(own, F_SETLKW, F_WRLCK)) return no_memory("lock", errno);
    }
    TRIREME_ASSIGN_OR_RETURN(header, read_header(own));
    if (header.size == 0) {
      TRIREME_RETURN_IF_ERROR(image.begin(digest));
      return image;
    }
    (void)lock(own, F_SETLK, F_UNLCK);
  }
  if (header.digest != digest) {
    return error(StatusCode::kFailedPrecondition, "it was made of something else");
  }
  TRIREME_RETURN_IF_ERROR(image.map(whole_pieces(header.size), PROT_READ));
  (void)::madvise(image.data_, image.mapped_, kMadvPopulateRead);
  image.size_ = header.size;
  image.is_made_ = true;
  return image;
}

Status SharedImage::begin(uint64_t digest) {
  digest_ = digest;
  // What a dead process left goes: padding that nobody writes must be zero.
  if (::ftruncate(fd_.get(), kHeaderBytes) != 0 || ::ftruncate(fd_.get(), kPageBytes) != 0) {
    return no_memory("size", errno);
  }
  return map(whole_pieces(machine_bytes()), PROT_READ | PROT_WRITE);
}

// Address space may be larger than the file; only what lies in the file can be touched.
Status SharedImage::map(uint64_t byte_count, int protection) {
  void* const room = ::mmap(nullptr, byte_count + kPieceBytes, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return no_memory("address space", errno);
  auto* const begin = static_cast<std::byte*>(room);
  const uint64_t before = -reinterpret_cast<uintptr_t>(begin) % kPieceBytes;
  if (before > 0) ::munmap(begin, before);
  data_ = begin + before;
  mapped_ = byte_count;
  ::munmap(data_ + byte_count, kPieceBytes - before);
  if (::mmap(data_, byte_count, protection, MAP_SHARED | MAP_FIXED, fd_.get(), 0) == MAP_FAILED) {
    return no_memory("map", errno);
  }
  return absl::OkStatus();
}

Status SharedImage::grow(uint64_t piece_count) {
  TRIREME_CHECK(!is_made_, "what is made is not made again");
  if (::ftruncate(fd_.get(), static_cast<off_t>(piece_count * kPieceBytes)) == 0) {
    return absl::OkStatus();
  }
  return no_memory("size", errno);
}

bool SharedImage::take_pieces(uint64_t first, uint64_t count) {
  // One page of each for the kernel to make a huge one of: it zeroes the rest once, where a piece
  // that is all there already would be zeroed and then copied.
  for (uint64_t piece = first; piece < first + count; ++piece) {
    const auto begin = static_cast<off_t>(piece * kPieceBytes);
    if (::fallocate(fd_.get(), 0, begin, kPageBytes) != 0) return false;
  }
  const uint64_t begin = first * kPieceBytes;
  if (::madvise(data_ + begin, count * kPieceBytes, kMadvCollapse) == 0) return true;
  // Some huge pages are not free: small ones do there.
  return ::fallocate(fd_.get(), 0, static_cast<off_t>(begin),
                     static_cast<off_t>(count * kPieceBytes)) == 0;
}

Status SharedImage::finish(uint64_t size) {
  TRIREME_CHECK(!is_made_ && size > 0 && size <= mapped_, "an image is made once, within its room");
  const uint64_t kept = whole_pieces(size);
  if (::mprotect(data_, kept, PROT_READ) != 0) return no_memory("mprotect", errno);
  ::munmap(data_ + kept, mapped_ - kept);
  if (::ftruncate(fd_.get(), static_cast<off_t>(kept)) != 0) return no_memory("size", errno);
  mapped_ = kept;
  size_ = size;
  is_made_ = true;
  TRIREME_RETURN_IF_ERROR(
      write_header(fd_.get(), {.digest = digest_, .size = size, .sharers = sharers_}));
  // Where a seal is refused, the read-only mappings are what protects.
  (void)::fcntl(fd_.get(), F_ADD_SEALS,
                F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
  (void)lock(fd_.get(), F_SETLK, F_UNLCK);
  return absl::OkStatus();
}

SharedImage::SharedImage(SharedImage&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      size_(other.size_),
      digest_(other.digest_),
      sharers_(other.sharers_),
      is_made_(other.is_made_) {}

SharedImage::~SharedImage() {
  if (data_ != nullptr) ::munmap(data_, mapped_);
}

}  // namespace trireme::shm
