// The plain words that Device (worker/device.h) and the kernels of a GPU share: without Status, so
// that a GPU's compiler reads nothing of abseil.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::worker {

enum class Element : uint8_t {
  kFloat32,
  kBfloat16,
  kFloat16,
  kInt8,  // Of K and V alone: with a scale for each head of each token.
};

[[nodiscard]] constexpr uint64_t element_bytes(Element element) {
  return element == Element::kFloat32 ? 4 : element == Element::kInt8 ? 1 : 2;
}

// A row-major matrix of activations in device memory, fp32 on the CPU.
struct View {
  float* data = nullptr;
  uint32_t row_count = 0;
  uint32_t column_count = 0;
  uint32_t row_stride = 0;  // In elements.

  [[nodiscard]] View columns(uint32_t begin, uint32_t count) const {
    return {data + begin, row_count, count, row_stride};
  }
  [[nodiscard]] View rows(uint32_t begin, uint32_t count) const {
    return {data + static_cast<std::size_t>(begin) * row_stride, count, column_count, row_stride};
  }
};

struct AttentionShape {
  uint32_t query_head_count = 0;
  uint32_t kv_head_count = 0;
  uint32_t head_size = 0;
  float scale = 1.0F;
  uint32_t window_tokens = 0;  // A token sees this many positions, its own included; 0: all.
  float soft_cap = 0.0F;       // Not 0: a score s becomes soft_cap · tanh(s / soft_cap).
  bool is_causal = true;       // False: a token sees all of its row that has KV; no window then.
};

enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh };

}  // namespace trireme::worker
