#include "worker/vocabulary_scan.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace trireme::worker {
namespace {

// Four lanes are in every x86-64 and ARM64; the compiler's vectors need no intrinsics.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
constexpr std::size_t kLanes = 4;
constexpr std::size_t kStride = 4 * kLanes;  // Four chains hide the latency of one.
constexpr float kLowest = -std::numeric_limits<float>::infinity();

Floats load(const float* from) {
  Floats out;
  std::memcpy(&out, from, sizeof(out));
  return out;
}

Floats broadcast(float x) { return Floats{x, x, x, x}; }

bool is_any(Ints mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }

// Cephes' expf: x = n ln2 + r, a polynomial in r, n into the exponent.
Floats exp4(Floats x) {
  const Floats rounder = broadcast(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer.
  const Floats least = broadcast(-87.0F);
  const Floats clamped = x < least ? least : x;
  const Floats shifted = clamped * 1.44269504F + rounder;
  const Floats n = shifted - rounder;
  const Floats r = clamped - n * 0.693359375F + n * 2.12194440e-4F;
  Floats p = broadcast(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const Ints exponent = (std::bit_cast<Ints>(shifted) - std::bit_cast<Ints>(rounder) + 127) << 23;
  const Floats out = p * std::bit_cast<Floats>(exponent);
  return x < least ? broadcast(0) : out;
}

double sum_of(Floats a) {
  return (static_cast<double>(a[0]) + static_cast<double>(a[1])) +
         (static_cast<double>(a[2]) + static_cast<double>(a[3]));
}

// Weights of up to kScanBlock values; `store(i, weights)` gets whole vectors, then the tail.
template <typename Store>
double exp_block(const float* row, std::size_t count, float peak, float scale, const Store& store) {
  Floats sums[4] = {};
  std::size_t i = 0;
  for (; i + kStride <= count; i += kStride) {
    for (std::size_t chain = 0; chain < 4; ++chain) {
      const Floats weights = exp4((load(row + i + chain * kLanes) - peak) * scale);
      sums[chain] += weights;
      store(i + chain * kLanes, reinterpret_cast<const float*>(&weights), kLanes);
    }
  }
  double total = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; ++i) {
    const float weight = exp_negative((row[i] - peak) * scale);
    store(i, &weight, 1);
    total += static_cast<double>(weight);
  }
  return total;
}

}  // namespace

float exp_negative(float x) { return exp4(broadcast(x))[0]; }

Peak find_peak(std::span<const float> row) {
  Peak peak{.value = kLowest};
  Ints nan = {};
  std::size_t best_block = row.size();
  for (std::size_t block = 0; block < row.size(); block += kScanBlock) {
    const std::size_t end = std::min(row.size(), block + kScanBlock);
    Floats best[4] = {broadcast(kLowest), broadcast(kLowest), broadcast(kLowest),
                      broadcast(kLowest)};
    std::size_t i = block;
    for (; i + kStride <= end; i += kStride) {
      for (std::size_t chain = 0; chain < 4; ++chain) {
        const Floats x = load(row.data() + i + chain * kLanes);
        best[chain] = x > best[chain] ? x : best[chain];
        nan |= x != x;
      }
    }
    float block_best = kLowest;
    for (const Floats& lanes : best) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        block_best = std::max(block_best, lanes[lane]);
      }
    }
    for (; i < end; ++i) {
      peak.has_nan = peak.has_nan || row[i] != row[i];
      if (row[i] > block_best) block_best = row[i];
    }
    if (block_best > peak.value) {
      peak.value = block_best;
      best_block = block;
    }
  }
  peak.has_nan = peak.has_nan || is_any(nan);
  if (best_block == row.size()) return peak;
  const auto* found = std::find(row.data() + best_block, row.data() + row.size(), peak.value);
  peak.id = static_cast<int32_t>(found - row.data());
  return peak;
}

double exp_sum(std::span<const float> row, float peak, float scale, std::span<double> block_sums) {
  double total = 0;
  for (std::size_t block = 0; block < row.size(); block += kScanBlock) {
    const std::size_t count = std::min(row.size() - block, kScanBlock);
    const double sum = exp_block(row.data() + block, count, peak, scale,
                                 [](std::size_t, const float*, std::size_t) {});
    if (!block_sums.empty()) block_sums[block / kScanBlock] = sum;
    total += sum;
  }
  return total;
}

double exp_weights(std::span<const float> row, float peak, float scale, std::span<float> out) {
  double total = 0;
  for (std::size_t block = 0; block < row.size(); block += kScanBlock) {
    const std::size_t count = std::min(row.size() - block, kScanBlock);
    float* to = out.data() + block;
    total += exp_block(row.data() + block, count, peak, scale,
                       [to](std::size_t i, const float* weights, std::size_t n) {
                         std::memcpy(to + i, weights, n * sizeof(float));
                       });
  }
  return total;
}

void collect_at_least(std::span<const float> row, float threshold, std::vector<Candidate>& out) {
  const auto take = [&](std::size_t i) {
    if (row[i] >= threshold) out.push_back({row[i], static_cast<int32_t>(i)});
  };
  std::size_t i = 0;
  for (; i + kStride <= row.size(); i += kStride) {
    const float* from = row.data() + i;
    const Ints mask = (load(from) >= threshold) | (load(from + kLanes) >= threshold) |
                      (load(from + 2 * kLanes) >= threshold) |
                      (load(from + 3 * kLanes) >= threshold);
    if (!is_any(mask)) continue;
    for (std::size_t j = i; j < i + kStride; ++j) take(j);
  }
  for (; i < row.size(); ++i) take(i);
}

uint32_t count_above(std::span<const float> row, float value) {
  Ints counts = {};
  std::size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) counts -= load(row.data() + i) > value;
  auto count = static_cast<uint32_t>(counts[0] + counts[1] + counts[2] + counts[3]);
  for (; i < row.size(); ++i) count += row[i] > value ? 1 : 0;
  return count;
}

void find_largest(std::span<const float> row, std::size_t k, std::vector<Candidate>& out) {
  // A heap whose front is the worst kept: in a long row nearly every value is below it, and one
  // comparison of the stride's peak settles 16 of them.
  constexpr std::size_t kHeapMax = 1024;
  out.clear();
  if (k > kHeapMax) {
    for (std::size_t i = 0; i < row.size(); ++i) out.push_back({row[i], static_cast<int32_t>(i)});
    const auto middle = out.begin() + static_cast<std::ptrdiff_t>(k);
    if (middle != out.end()) std::nth_element(out.begin(), middle, out.end());
    out.resize(k);
    std::sort(out.begin(), out.end());
    return;
  }
  for (std::size_t i = 0; i < k; ++i) out.push_back({row[i], static_cast<int32_t>(i)});
  std::make_heap(out.begin(), out.end());
  const auto offer = [&](std::size_t i) {
    if (!(row[i] > out.front().value)) return;
    std::pop_heap(out.begin(), out.end());
    out.back() = {row[i], static_cast<int32_t>(i)};
    std::push_heap(out.begin(), out.end());
  };
  std::size_t i = k;
  for (; i + kStride <= row.size(); i += kStride) {
    const float* from = row.data() + i;
    const float worst = out.front().value;
    const Ints mask = (load(from) > worst) | (load(from + kLanes) > worst) |
                      (load(from + 2 * kLanes) > worst) | (load(from + 3 * kLanes) > worst);
    if (!is_any(mask)) continue;
    for (std::size_t j = i; j < i + kStride; ++j) offer(j);
  }
  for (; i < row.size(); ++i) offer(i);
  std::sort_heap(out.begin(), out.end());
}

}  // namespace trireme::worker
