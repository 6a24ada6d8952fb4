#include "worker/vocabulary_scan.h"

#include <algorithm>
#include <array>

#include "worker/vocabulary_passes.h"

namespace trireme::worker {

extern const VocabularyPasses kPlainPasses;
extern const VocabularyPasses kAvx2Passes;
extern const VocabularyPasses kAvx512Passes;

namespace {

constexpr std::size_t kStride = 16;  // What VocabularyPasses::next_at_least settles at once.

bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const VocabularyPasses& passes() {
  static const VocabularyPasses& best = *vocabulary_passes().back();
  return best;
}

double exp_row(std::span<const float> row, float peak, float scale, double* block_sums,
               float* out) {
  double total = 0;
  for (std::size_t begin = 0; begin < row.size(); begin += kScanBlock) {
    const std::size_t count = std::min(row.size() - begin, kScanBlock);
    const double sum = passes().exp_block(row.data() + begin, count, peak, scale,
                                          out == nullptr ? nullptr : out + begin);
    if (block_sums != nullptr) block_sums[begin / kScanBlock] = sum;
    total += sum;
  }
  return total;
}

// visit(i) for every i that may have row[i] >= threshold(), by rising i.
template <typename Threshold, typename Visit>
void visit_at_least(std::span<const float> row, std::size_t begin, const Threshold& threshold,
                    const Visit& visit) {
  std::size_t i = begin;
  while (true) {
    i = passes().next_at_least(row.data(), i, row.size(), threshold());
    const std::size_t end = std::min(i + kStride, row.size());
    if (i == end) return;
    for (; i < end; ++i) visit(i);
  }
}

}  // namespace

std::span<const VocabularyPasses* const> vocabulary_passes() {
  static const std::array<const VocabularyPasses*, 3> all = {&kPlainPasses, &kAvx2Passes,
                                                             &kAvx512Passes};
  std::size_t count = 1;
  if (__builtin_cpu_supports("avx2")) count = runs_avx512() ? 3 : 2;
  return std::span(all).first(count);
}

float exp_negative(float x) {
  float out = 0;
  passes().exp_block(&x, 1, 0, 1, &out);
  return out;
}

Peak find_peak(std::span<const float> row) {
  Peak peak{.value = -std::numeric_limits<float>::infinity()};
  std::size_t best = row.size();
  for (std::size_t begin = 0; begin < row.size(); begin += kScanBlock) {
    const std::size_t count = std::min(row.size() - begin, kScanBlock);
    bool has_nan = false;
    const float largest = passes().largest(row.data() + begin, count, &has_nan);
    peak.has_nan = peak.has_nan || has_nan;
    if (largest > peak.value) {
      peak.value = largest;
      best = begin;
    }
  }
  if (best == row.size()) return peak;
  const auto* found = std::find(row.data() + best, row.data() + row.size(), peak.value);
  peak.id = static_cast<int32_t>(found - row.data());
  return peak;
}

double exp_sum(std::span<const float> row, float peak, float scale, std::span<double> block_sums) {
  return exp_row(row, peak, scale, block_sums.empty() ? nullptr : block_sums.data(), nullptr);
}

double exp_weights(std::span<const float> row, float peak, float scale, std::span<float> out) {
  return exp_row(row, peak, scale, nullptr, out.data());
}

void collect_at_least(std::span<const float> row, float threshold, std::vector<Candidate>& out) {
  visit_at_least(
      row, 0, [threshold] { return threshold; },
      [&](std::size_t i) {
        if (row[i] >= threshold) out.push_back({row[i], static_cast<int32_t>(i)});
      });
}

uint32_t count_above(std::span<const float> row, float value) {
  return static_cast<uint32_t>(passes().count_above(row.data(), row.size(), value));
}

void find_largest(std::span<const float> row, std::size_t k, std::vector<Candidate>& out) {
  // A heap whose front is the worst kept: in a long row nearly every value is below it, and one
  // look settles a stride.
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
  visit_at_least(
      row, k, [&] { return out.front().value; },
      [&](std::size_t i) {
        if (!(row[i] > out.front().value)) return;
        std::pop_heap(out.begin(), out.end());
        out.back() = {row[i], static_cast<int32_t>(i)};
        std::push_heap(out.begin(), out.end());
      });
  std::sort_heap(out.begin(), out.end());
}

}  // namespace trireme::worker
