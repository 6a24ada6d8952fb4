// Passes over one row of logits, each at about the speed of memory: the loops under the sampler.
//
// Sums are taken in blocks of kScanBlock values, lanes and blocks in fixed order: the same row
// gives the same bits on every machine with the same floating point. Pure functions: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace trireme::worker {

inline constexpr std::size_t kScanBlock = 256;

struct Candidate {
  float value = 0;
  int32_t id = 0;

  // Falling value; equal values by rising id.
  [[nodiscard]] friend bool operator<(const Candidate& a, const Candidate& b) {
    return a.value != b.value ? a.value > b.value : a.id < b.id;
  }
};

struct Peak {
  float value = 0;
  int32_t id = -1;  // The lowest id that has the value; -1: nothing is above -inf.
  bool has_nan = false;

  // Softmax is defined: there is a largest value and it is finite.
  [[nodiscard]] bool is_usable() const {
    return !has_nan && id >= 0 && value <= std::numeric_limits<float>::max();
  }
};
[[nodiscard]] Peak find_peak(std::span<const float> row);

// e^x for x <= 0 with a relative error under 2e-7; 0 below about -87.
[[nodiscard]] float exp_negative(float x);

// Sum of exp((row[i] - peak) * scale); block_sums, unless empty, gets one sum per block.
[[nodiscard]] double exp_sum(std::span<const float> row, float peak, float scale,
                             std::span<double> block_sums);
// out[i] = exp((row[i] - peak) * scale); returns their sum.
double exp_weights(std::span<const float> row, float peak, float scale, std::span<float> out);

// Appends all row[i] >= threshold by rising id.
void collect_at_least(std::span<const float> row, float threshold, std::vector<Candidate>& out);
[[nodiscard]] uint32_t count_above(std::span<const float> row, float value);

// The k largest in order (see Candidate), k in [1, row.size()].
void find_largest(std::span<const float> row, std::size_t k, std::vector<Candidate>& out);

}  // namespace trireme::worker
