// SharedImage: bytes that one process of a node makes and the others map, without a name anywhere.
//
//   parent ── create(): a memfd with a header ──▶ its children, by inheritance ── open(digest)
//
//     empty ── the first to open it makes it, the others wait ──▶ finish() ──▶ made, for good
//       ▲───────────── the process that makes it died ─────────────┘
//
// The parent keeps the descriptor, so a child that is started again maps what is made already. Who
// makes it holds a record lock, which the kernel takes from the dead; the next one starts from
// zero.
//
// Pages are huge (2 MiB) whatever the system's setting for shared memory: MADV_COLLAPSE asks for
// them one by one (Linux 6.1). They are taken before they are touched, so a full machine is a
// Status and never SIGBUS. What is made is sealed and mapped read-only: a wild write ends the
// process that does it and harms no other.
//
//   memfd:  header (64 bytes) | bytes …      `size` counts from the start, header included
//
// Threads: one owner; take_pieces() from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::shm {

class SharedImage {
 public:
  static constexpr uint64_t kPieceBytes = uint64_t{2} << 20;
  static constexpr uint64_t kHeaderBytes = 64;

  // For `sharers` processes. kUnimplemented, with the reason, where shared memory has no huge pages
  // or files may not be large.
  [[nodiscard]] static StatusOr<UniqueFd> create(const std::string& name, uint32_t sharers);

  // Takes over a descriptor of create(). `digest`: of all that decides the bytes. Returns when they
  // are made, or the caller is the one to make them; `waiting` is called once when it has to wait.
  // kFailedPrecondition: made with another digest. kInvalidArgument: no image.
  [[nodiscard]] static StatusOr<SharedImage> open(UniqueFd fd, uint64_t digest,
                                                  const std::function<void()>& waiting);

  SharedImage(SharedImage&& other) noexcept;
  SharedImage& operator=(SharedImage&&) = delete;
  ~SharedImage();  // Of one that was not finished: the next who opens it makes it.

  [[nodiscard]] bool is_made() const { return is_made_; }
  [[nodiscard]] uint32_t sharers() const { return sharers_; }
  // Starts on a huge page. Zeroed where nobody has written.
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }  // Of what is made.

  // --- For who makes it. ---
  // Room for [0, piece_count pieces); only ever more. kResourceExhausted.
  [[nodiscard]] Status grow(uint64_t piece_count);
  // Memory for some pieces of the room, which may be written from then on; the more at once the
  // better. False: there is none (errno says why).
  [[nodiscard]] bool take_pieces(uint64_t first, uint64_t count);
  // [0, size) is as it shall be; pieces behind it are given back. Afterwards a write ends the
  // process.
  [[nodiscard]] Status finish(uint64_t size);

 private:
  explicit SharedImage(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] Status begin(uint64_t digest);
  [[nodiscard]] Status map(uint64_t byte_count, int protection);

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  uint64_t mapped_ = 0;
  uint64_t size_ = 0;
  uint64_t digest_ = 0;
  uint32_t sharers_ = 0;
  bool is_made_ = false;
};

}  // namespace trireme::shm
