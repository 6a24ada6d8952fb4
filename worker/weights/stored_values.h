// Elements of a checkpoint's tensor, which need not be aligned.
#pragma once

#include <cstring>
#include <optional>

#include "worker/kernels/element.h"
#include "worker/weights/safetensors.h"

namespace trireme::worker {

[[nodiscard]] inline std::optional<Element> float_element(DType dtype) {
  if (dtype == DType::kF32) return Element::kFloat32;
  if (dtype == DType::kBF16) return Element::kBfloat16;
  if (dtype == DType::kF16) return Element::kFloat16;
  return std::nullopt;
}

// Numbers in F32, BF16 or F16.
class StoredFloats {
 public:
  StoredFloats() = default;
  StoredFloats(const TensorView& tensor, Element element)
      : data_(tensor.bytes.data()), element_(element) {}
  [[nodiscard]] float operator[](uint64_t index) const {
    return read_element(data_, index, element_);
  }

 private:
  const void* data_ = nullptr;
  Element element_ = Element::kFloat32;
};

// 32-bit words.
class StoredWords {
 public:
  StoredWords() = default;
  explicit StoredWords(const TensorView& tensor)
      : data_(tensor.bytes.data()), count_(tensor.bytes.size() / sizeof(uint32_t)) {}
  [[nodiscard]] uint32_t operator[](uint64_t index) const {
    uint32_t word = 0;
    std::memcpy(&word, data_ + sizeof(word) * index, sizeof(word));
    return word;
  }
  [[nodiscard]] uint64_t count() const { return count_; }

 private:
  const std::byte* data_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace trireme::worker
