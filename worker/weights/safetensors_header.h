// The header of one safetensors file: 8 bytes of length, JSON, then the tensors' bytes.
//
//   {"__metadata__": {"k": "v"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0,
//   24]}}
//
// parse_safetensors believes nothing: the tensors it returns lie inside `file`, do not overlap,
// leave no byte of the data unused, and are as long as their shape and dtype say. Pure; any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/weights/dtype.h"

namespace trireme::worker {

inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;
inline constexpr std::size_t kTensorRankMax = 8;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

// kDataLoss with `path`, the tensor and the numbers. Entries are in the order of their bytes.
[[nodiscard]] StatusOr<std::vector<SafetensorsEntry>> parse_safetensors(
    std::span<const std::byte> file, const std::string& path);

}  // namespace trireme::worker
