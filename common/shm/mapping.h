// Mapping: memory shared between processes of one node, without a name anywhere.
//
// A memfd: it is gone when the last process that holds it is, however that ended. The creator hands
// the descriptor to a child (ChildOptions::inherited_fds) and its number as a flag. The size is
// sealed, so no peer can shrink it under us (SIGBUS), and its pages are taken at creation, so a
// full machine is an error here and not a crash later.
// Threads: any may use the bytes; one owner.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::shm {

class Mapping {
 public:
  // Zeroed. `name` is what /proc/<pid>/maps shows.
  [[nodiscard]] static StatusOr<Mapping> create(const std::string& name, std::size_t bytes);
  // Takes over a descriptor that create() made, in this or another process.
  [[nodiscard]] static StatusOr<Mapping> attach(UniqueFd fd);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Mapping(UniqueFd fd, std::span<std::byte> bytes) : fd_(std::move(fd)), bytes_(bytes) {}
  [[nodiscard]] static StatusOr<Mapping> map(UniqueFd fd, std::size_t bytes);
  UniqueFd fd_;
  std::span<std::byte> bytes_;
};

}  // namespace trireme::shm
