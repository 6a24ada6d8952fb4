// Functions of one value at a time, in place. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

TRIREME_INLINE Vec tanh(Vec x) { return 1.0F - 2.0F / (1.0F + exp(x * 2.0F)); }

// 1 - erf(z) for z >= 0 with a relative error under 2e-7 (Numerical Recipes, erfcc).
TRIREME_INLINE Vec erf_complement(Vec z) {
  const Vec t = 1.0F / (1.0F + z * 0.5F);
  Vec series = splat(0.17087277F);
  series = series * t - 0.82215223F;
  series = series * t + 1.48851587F;
  series = series * t - 1.13520398F;
  series = series * t + 0.27886807F;
  series = series * t - 0.18628806F;
  series = series * t + 0.09678418F;
  series = series * t + 0.37409196F;
  series = series * t + 1.00002368F;
  return t * exp(series * t - 1.26551223F - z * z);
}

TRIREME_INLINE Vec gelu_of(Vec x) {
  const Vec z = x * 0.70710678F;
  const Vec tail = erf_complement(select(splat(0.0F) > z, -z, z)) * 0.5F;
  return x * select(splat(0.0F) > x, tail, 1.0F - tail);
}

// x · (1 + tanh(u)) / 2 is x / (1 + e^-2u), which does not cancel.
TRIREME_INLINE Vec gelu_tanh_of(Vec x) {
  const Vec inner = x * (x * x * 0.044715F + 1.0F) * 0.79788456F;
  return x / (1.0F + exp(inner * -2.0F));
}

template <typename Function>
TRIREME_INLINE void map(float* x, uint32_t count, const Function& function) {
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, function(load(x + i)));
  if (i < count) store_part(x + i, function(load_part(x + i, count - i, 0.0F)), count - i);
}

void gelu(float* x, uint32_t count) {
  map(x, count, [](Vec value) { return gelu_of(value); });
}

void gelu_tanh(float* x, uint32_t count) {
  map(x, count, [](Vec value) { return gelu_tanh_of(value); });
}

void silu(float* x, uint32_t count) {
  map(x, count, [](Vec value) { return value / (1.0F + exp(-value)); });
}

void soft_cap(float* x, float cap, uint32_t count) {
  map(x, count, [cap](Vec value) { return tanh(value / cap) * cap; });
}

void scale(float* x, float factor, uint32_t count) {
  map(x, count, [factor](Vec value) { return value * factor; });
}

void multiply(float* x, const float* by, uint32_t count) {
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, load(x + i) * load(by + i));
  for (; i < count; ++i) x[i] *= by[i];
}

}  // namespace
}  // namespace trireme::worker
