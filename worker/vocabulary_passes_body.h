// VocabularyPasses for the instruction set of the file that includes it. vec.h says who may.
#pragma once

#include "worker/kernels/cpu/vec.h"
#include "worker/vocabulary_passes.h"

namespace trireme::worker {
namespace {

constexpr float kLowest = -__builtin_inff();

inline float largest(const float* row, std::size_t count, bool* has_nan) {
  // Two chains hide the latency of one.
  Vec best[2] = {splat(kLowest), splat(kLowest)};
  Vec::Mask nan = {};
  const auto take = [&](const Vec& x, Vec& chain) {
    chain = max(x, chain);
    nan |= is_nan(x);
  };
  std::size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    take(load(row + i), best[0]);
    take(load(row + i + kLanes), best[1]);
  }
  for (; i < count; i += kLanes) {
    const auto left = static_cast<uint32_t>(count - i < kLanes ? count - i : kLanes);
    take(load_part(row + i, left, kLowest), best[0]);
  }
  *has_nan = is_any(nan);
  return max_lanes(max(best[0], best[1]));
}

inline double sum_in_double(const Vec& value) {
  float lanes[kLanes];
  store(lanes, value);
  double quarters[4];
  for (uint32_t i = 0; i < 4; ++i) {
    quarters[i] = static_cast<double>((lanes[i] + lanes[i + 4]) + (lanes[i + 8] + lanes[i + 12]));
  }
  return (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
}

inline double exp_block(const float* row, std::size_t count, float peak, float scale, float* out) {
  Vec sums = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec weights = exp((load(row + i) - peak) * scale);
    sums += weights;
    if (out != nullptr) store(out + i, weights);
  }
  if (i < count) {
    const auto left = static_cast<uint32_t>(count - i);
    const Vec weights = exp((load_part(row + i, left, kLowest) - peak) * scale);
    sums += weights;
    if (out != nullptr) store_part(out + i, weights, left);
  }
  return sum_in_double(sums);
}

inline std::size_t next_at_least(const float* row, std::size_t begin, std::size_t count,
                                 float threshold) {
  std::size_t i = begin;
  for (; i + kLanes <= count; i += kLanes) {
    if (is_any(load(row + i) >= splat(threshold))) break;
  }
  return i;
}

inline std::size_t count_above(const float* row, std::size_t count, float value) {
  VecInt counts = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    counts -= load(row + i) > splat(value);
  }
  std::size_t sum = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) sum += static_cast<uint32_t>(counts[lane]);
  for (; i < count; ++i) sum += row[i] > value ? 1 : 0;
  return sum;
}

constexpr VocabularyPasses passes_named(std::string_view name) {
  return {.name = name,
          .largest = largest,
          .exp_block = exp_block,
          .next_at_least = next_at_least,
          .count_above = count_above};
}

}  // namespace
}  // namespace trireme::worker
