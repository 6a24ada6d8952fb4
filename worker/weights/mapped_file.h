// MappedFile: a file's bytes, mapped read-only. Pages come from the page cache on first touch, so
// opening is cheap and several processes share one copy. The file must not shrink while mapped
// (the kernel answers a touch beyond its end with SIGBUS).
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "common/status.h"

namespace trireme::worker {

class MappedFile {
 public:
  // kNotFound, kPermissionDenied or kInvalidArgument with the path and the system's words.
  [[nodiscard]] static StatusOr<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  // What was touched so far no longer counts as this process's memory: the page cache may keep it,
  // and a later touch brings it back.
  void release_pages() const;

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes);

  std::string path_;
  std::span<const std::byte> bytes_;
};

// A small text file whole; kResourceExhausted when it is longer than `bytes_max`.
[[nodiscard]] StatusOr<std::string> read_text_file(const std::string& path, std::size_t bytes_max);

}  // namespace trireme::worker
