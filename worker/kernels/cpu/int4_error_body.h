// What int4 codes would lose of some weights. See vec.h for who may include it.
#pragma once

#include "worker/kernels/cpu/vec.h"

namespace trireme::worker {
namespace {

// The sum of (value - code · scale)² over `count` values, a multiple of 16, where code is the whole
// number in [-8, 7] nearest to value / scale.
float int4_error(const float* values, uint32_t count, float scale) {
  const Vec inverse = splat(1.0F / scale);
  Vec errors = {};
  for (uint32_t i = 0; i < count; i += kLanes) {
    const Vec value = load(values + i);
    Vec code = (value * inverse + kRoundingMagic) - kRoundingMagic;
    code = max(code, splat(-8.0F));
    code = min(code, splat(7.0F));
    const Vec difference = value - code * splat(scale);
    errors += difference * difference;
  }
  return sum_lanes(errors);
}

}  // namespace
}  // namespace trireme::worker
