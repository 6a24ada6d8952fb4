// The truth that kernels are tested against: each operator in the plainest fp32 code. Sums are
// taken in double, so that what differs is the kernel's rounding alone. Slow; for tests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/device.h"

namespace trireme::worker::reference {

// [row_count][out_features] = x [row_count][in_features] · Wᵀ [out_features][in_features] + bias.
[[nodiscard]] std::vector<float> linear(std::span<const float> x, std::span<const float> weight,
                                        std::span<const float> bias, uint32_t row_count,
                                        uint32_t in_features);

[[nodiscard]] std::vector<float> rms_norm(std::span<const float> row, std::span<const float> weight,
                                          float epsilon);

[[nodiscard]] std::vector<float> silu_mul(std::span<const float> gate, std::span<const float> up);

// Pairs (i, i + size / 2) of the head turn by the angle whose cosine and sine are given.
[[nodiscard]] std::vector<float> rotary(std::span<const float> head, std::span<const float> cosines,
                                        std::span<const float> sines);

// One query over keys and values [positions][head_size] in [first, last].
[[nodiscard]] std::vector<float> attention(std::span<const float> query,
                                           std::span<const float> keys,
                                           std::span<const float> values, uint32_t first,
                                           uint32_t last, float scale);

// One query over rows [positions][query size] in [0, last], each row's first value_size columns
// being its value.
[[nodiscard]] std::vector<float> latent_attention(std::span<const float> query,
                                                  std::span<const float> rows, uint32_t value_size,
                                                  uint32_t last, float scale);

struct ChosenExpert {
  uint32_t expert;
  float weight;
};
// Of one token, in the order of the experts. bias: one for each, or empty.
[[nodiscard]] std::vector<ChosenExpert> choose_experts(const Routing& routing,
                                                       std::span<const float> logits,
                                                       std::span<const float> bias);

// As a bf16 kernel sees its operands.
[[nodiscard]] std::vector<float> rounded_to_bfloat16(std::span<const float> values);

}  // namespace trireme::worker::reference
