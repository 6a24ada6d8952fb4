// Kernels that work row by row. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/kernel_table.h"
#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

using cpu::NormRows;

void add(float* x, const float* delta, uint32_t count) {
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, load(x + i) + load(delta + i));
  for (; i < count; ++i) x[i] += delta[i];
}

void add_scaled(float* x, const float* delta, float factor, uint32_t count) {
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, load(x + i) + load(delta + i) * factor);
  for (; i < count; ++i) x[i] += delta[i] * factor;
}

// x86 has no vector square root in the language; one scalar root per row is nothing.
TRIREME_INLINE float inverse_root(float value) { return 1.0F / __builtin_sqrtf(value); }

void rms_norm(const NormRows& rows) {
  const uint32_t count = rows.column_count;
  const uint32_t whole = count - count % kLanes;
  for (uint32_t row = 0; row < rows.row_count; ++row) {
    float* x = rows.x + static_cast<uint64_t>(row) * rows.x_stride;
    float* out = rows.out + static_cast<uint64_t>(row) * rows.out_stride;
    if (rows.delta != nullptr) {
      add(x, rows.delta + static_cast<uint64_t>(row) * rows.delta_stride, count);
    }
    Vec squares = {};
    for (uint32_t i = 0; i < whole; i += kLanes) squares += load(x + i) * load(x + i);
    if (whole < count) {
      const Vec tail = load_part(x + whole, count - whole, 0.0F);
      squares += tail * tail;
    }
    const float mean = sum_lanes(squares) / static_cast<float>(count);
    const float factor = inverse_root(mean + rows.epsilon);
    for (uint32_t i = 0; i < whole; i += kLanes) {
      store(out + i, load(x + i) * factor * load(rows.weight + i));
    }
    for (uint32_t i = whole; i < count; ++i) out[i] = x[i] * factor * rows.weight[i];
  }
}

TRIREME_INLINE Vec silu(Vec x) { return x / (1.0F + exp(-x)); }

void silu_mul(const float* gate, const float* up, uint32_t count, float* out) {
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, silu(load(gate + i)) * load(up + i));
  if (i < count) {
    const uint32_t left = count - i;
    store_part(out + i, silu(load_part(gate + i, left, 0.0F)) * load_part(up + i, left, 0.0F),
               left);
  }
}

void rotary(float* head, const float* cosines, const float* sines, uint32_t pair_count) {
  float* second_half = head + pair_count;
  uint32_t i = 0;
  for (; i + kLanes <= pair_count; i += kLanes) {
    const Vec first = load(head + i);
    const Vec second = load(second_half + i);
    const Vec cosine = load(cosines + i);
    const Vec sine = load(sines + i);
    store(head + i, first * cosine - second * sine);
    store(second_half + i, second * cosine + first * sine);
  }
  for (; i < pair_count; ++i) {
    const float first = head[i];
    const float second = second_half[i];
    head[i] = first * cosines[i] - second * sines[i];
    second_half[i] = second * cosines[i] + first * sines[i];
  }
}

}  // namespace
}  // namespace trireme::worker
