#include "worker/weights/dtype.h"

#include <array>

#include "common/check.h"

namespace trireme::worker {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  uint32_t bytes;
};

constexpr std::array<Entry, 15> kDTypes = {{{DType::kBool, "BOOL", 1},
                                            {DType::kU8, "U8", 1},
                                            {DType::kI8, "I8", 1},
                                            {DType::kF8E4M3, "F8_E4M3", 1},
                                            {DType::kF8E5M2, "F8_E5M2", 1},
                                            {DType::kI16, "I16", 2},
                                            {DType::kU16, "U16", 2},
                                            {DType::kF16, "F16", 2},
                                            {DType::kBF16, "BF16", 2},
                                            {DType::kI32, "I32", 4},
                                            {DType::kU32, "U32", 4},
                                            {DType::kF32, "F32", 4},
                                            {DType::kI64, "I64", 8},
                                            {DType::kU64, "U64", 8},
                                            {DType::kF64, "F64", 8}}};

const Entry& entry_of(DType dtype) {
  const Entry& entry = kDTypes[static_cast<std::size_t>(dtype)];
  TRIREME_CHECK(entry.dtype == dtype, "the table is in the order of the enum");
  return entry;
}

}  // namespace

std::string_view name_of(DType dtype) { return entry_of(dtype).name; }

uint32_t size_of(DType dtype) { return entry_of(dtype).bytes; }

std::optional<DType> dtype_of(std::string_view name) {
  for (const Entry& entry : kDTypes) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

}  // namespace trireme::worker
