// The weights of a golden model from its weights.txt: not stored but computed, as tiny_models.py
// does for transformers (values_of).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "worker/kernels/element.h"
#include "worker/weights/test_directory.h"

namespace trireme::worker {

// FNV-1a, 64 bits.
[[nodiscard]] inline uint64_t hash_of(std::string_view text) {
  uint64_t value = 0xCBF29CE484222325U;
  for (const char byte : text) value = (value ^ static_cast<uint8_t>(byte)) * 0x100000001B3U;
  return value;
}

// Of splitmix64 with this state.
[[nodiscard]] inline uint64_t mixed(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9U;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBU;
  return state ^ (state >> 31);
}

// One line of weights.txt.
struct GeneratedTensor {
  std::string name;
  float centre = 0;
  float spread = 0;
  std::string dimensions;  // "2,3"
  uint64_t count = 1;

  [[nodiscard]] static GeneratedTensor parse(const std::string& line) {
    GeneratedTensor tensor;
    std::istringstream words(line);
    words >> tensor.name >> tensor.centre >> tensor.spread;
    for (uint64_t dimension = 0; words >> dimension; tensor.count *= dimension) {
      absl::StrAppendFormat(&tensor.dimensions, "%s%d", tensor.dimensions.empty() ? "" : ",",
                            dimension);
    }
    return tensor;
  }

  void append_values(std::string& data) const {
    const uint64_t seed = hash_of(name);
    for (uint64_t i = 1; i <= count; ++i) {
      const auto step = static_cast<float>(mixed(seed + i * 0x9E3779B97F4A7C15U) >> 57) - 64;
      const uint16_t value = bfloat16_of(centre + spread * step / 64);
      data.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
  }
};

// Writes model.safetensors for the list at `weights`.
inline void write_generated_weights(const std::string& weights, const TestDirectory& directory) {
  std::ifstream lines(weights);
  EXPECT_TRUE(lines.good()) << weights;
  std::string header;
  std::string data;
  for (std::string line; std::getline(lines, line);) {
    const GeneratedTensor tensor = GeneratedTensor::parse(line);
    const std::size_t begin = data.size();
    tensor.append_values(data);
    absl::StrAppendFormat(&header, R"(%s"%s":{"dtype":"BF16","shape":[%s],"data_offsets":[%d,%d]})",
                          header.empty() ? "" : ",", tensor.name, tensor.dimensions, begin,
                          data.size());
  }
  directory.write("model.safetensors", safetensors_bytes("{" + header + "}", data));
}

}  // namespace trireme::worker
