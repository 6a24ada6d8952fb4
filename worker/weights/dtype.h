// DType: the element types that safetensors files may hold, under the format's own names.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace trireme::worker {

enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

[[nodiscard]] std::string_view name_of(DType dtype);  // "BF16"
[[nodiscard]] uint32_t size_of(DType dtype);          // Bytes of one element.
[[nodiscard]] std::optional<DType> dtype_of(std::string_view name);

}  // namespace trireme::worker
