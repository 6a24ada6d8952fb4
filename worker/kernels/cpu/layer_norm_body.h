// Norms beside rms_norm. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/row_body.h"
#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

// Σ (x - centre)², in lanes and then over them.
TRIREME_INLINE float squares_around(const float* x, float centre, uint32_t count) {
  Vec squares = {};
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec distance = load(x + i) - centre;
    squares += distance * distance;
  }
  if (i < count) {
    const Vec distance = load_part(x + i, count - i, centre) - centre;
    squares += distance * distance;
  }
  return sum_lanes(squares);
}

float sum_of_squares(const float* x, uint32_t count) { return squares_around(x, 0.0F, count); }

TRIREME_INLINE float mean_of(const float* x, uint32_t count) {
  Vec sums = {};
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += load(x + i);
  if (i < count) sums += load_part(x + i, count - i, 0.0F);
  return sum_lanes(sums) / static_cast<float>(count);
}

void layer_norm(const NormRows& rows) {
  const uint32_t count = rows.column_count;
  for (uint32_t row = 0; row < rows.row_count; ++row) {
    const float* x = rows.x + static_cast<uint64_t>(row) * rows.x_stride;
    float* out = rows.out + static_cast<uint64_t>(row) * rows.out_stride;
    const float mean = mean_of(x, count);
    const float variance = squares_around(x, mean, count) / static_cast<float>(count);
    const float factor = inverse_root(variance + rows.epsilon);
    uint32_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      Vec value = (load(x + i) - mean) * factor * load(rows.weight + i);
      if (rows.bias != nullptr) value += load(rows.bias + i);
      store(out + i, value);
    }
    for (; i < count; ++i) {
      const float value = (x[i] - mean) * factor * rows.weight[i];
      out[i] = rows.bias == nullptr ? value : value + rows.bias[i];
    }
  }
}

}  // namespace
}  // namespace trireme::worker
