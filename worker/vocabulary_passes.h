// The passes of vocabulary_scan.h, compiled once per instruction set. All sets give the same bits:
// 16 lanes in the same order, products and sums rounded apart (no fused multiply-add).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace trireme::worker {

struct VocabularyPasses {
  std::string_view name;
  // The largest of row[0..count), -inf for none; NaN is passed over and sets has_nan.
  float (*largest)(const float* row, std::size_t count, bool* has_nan);
  // Sum of exp((row[i] - peak) * scale); `out`, unless null, gets the terms. count <= kScanBlock.
  double (*exp_block)(const float* row, std::size_t count, float peak, float scale, float* out);
  // The first of begin, begin + 16, ... with one of its 16 values >= threshold; without one, the
  // first that is less than 16 from the end.
  std::size_t (*next_at_least)(const float* row, std::size_t begin, std::size_t count,
                               float threshold);
  std::size_t (*count_above)(const float* row, std::size_t count, float value);
};

// Those that this CPU runs, the fastest last.
[[nodiscard]] std::span<const VocabularyPasses* const> vocabulary_passes();

}  // namespace trireme::worker
