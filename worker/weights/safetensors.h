// Safetensors: the tensors of one model, from a single file or from shards with an index.
//
//   StatusOr<Safetensors> weights = Safetensors::open_directory("/models/demo");
//   StatusOr<TensorView> norm = weights->require("model.norm.weight", {hidden});
//
// Files are mapped, not read: bytes come on first touch and views live as long as this object.
// Every lie of the files (header, offsets, dtype, shards, index) is found in opening and named with
// file, tensor and numbers. Threads: const after opening, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/status.h"
#include "worker/weights/dtype.h"
#include "worker/weights/mapped_file.h"

namespace trireme::worker {

struct TensorView {
  std::string_view name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte>
      bytes;  // Not necessarily aligned to the element: the format allows it.
};

class Safetensors {
 public:
  // model.safetensors, else the shards that model.safetensors.index.json names.
  [[nodiscard]] static StatusOr<Safetensors> open_directory(const std::string& directory);
  [[nodiscard]] static StatusOr<Safetensors> open_file(const std::string& path);

  // Null when there is none.
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  // Which file has it; there must be one.
  [[nodiscard]] const std::string& file_of(std::string_view name) const;
  // kNotFound when there is none, kInvalidArgument when its shape is another one.
  [[nodiscard]] StatusOr<TensorView> require(std::string_view name,
                                             std::span<const int64_t> shape) const;
  [[nodiscard]] StatusOr<TensorView> require(std::string_view name,
                                             std::initializer_list<int64_t> shape) const {
    return require(name, std::span(shape.begin(), shape.size()));
  }

  [[nodiscard]] std::span<const TensorView> tensors() const { return tensors_; }
  [[nodiscard]] uint64_t byte_count() const { return byte_count_; }  // Of all tensors together.
  // Touches all bytes of the tensors whose names begin so, in the order of the files; `on_piece` is
  // called before each kPieceBytes of them, which is when a slow disk makes it wait.
  static constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  void read_through(std::string_view prefix, const std::function<void()>& on_piece) const;
  // MappedFile::release_pages() of all files.
  void release_pages() const {
    for (const MappedFile& file : files_) file.release_pages();
  }

 private:
  Safetensors() = default;

  // Takes the file's tensors for which `belongs(name)`; a duplicate names both files.
  template <typename Belongs>
  [[nodiscard]] Status add_file(const std::string& path, const Belongs& belongs);
  [[nodiscard]] static StatusOr<Safetensors> open_index(const std::string& directory);

  struct Place {
    uint32_t tensor = 0;
    uint32_t file = 0;
  };

  std::vector<MappedFile> files_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, Place> places_;  // Owns the names (nodes never move).
  uint64_t byte_count_ = 0;
};

}  // namespace trireme::worker
