#include "worker/pooler.h"

#include <cmath>

namespace trireme::worker {

bool Pooler::take(uint32_t slot, const PoolUse& use, std::span<const float> features) {
  Sum& sum = sums_[slot];
  // What an aborted or preempted sequence left here is gone.
  if (use.begins) sum = {};
  sum.values.resize(hidden_size_);
  for (uint32_t i = 0; i < use.feature_count; ++i) {
    const auto state = features.subspan((use.feature_begin + i) * std::size_t{hidden_size_});
    for (uint32_t column = 0; column < hidden_size_; ++column) {
      sum.values[column] += state[column];
    }
  }
  sum.count += use.feature_count;
  return use.ends;
}

std::vector<float> Pooler::finish(uint32_t slot) {
  const auto node = sums_.extract(slot);
  if (node.empty() || node.mapped().count == 0) return {};
  const Sum& sum = node.mapped();
  std::vector<float> pooled(hidden_size_);
  for (uint32_t column = 0; column < hidden_size_; ++column) {
    pooled[column] = static_cast<float>(sum.values[column] / sum.count);
    if (!std::isfinite(pooled[column])) return {};
  }
  return pooled;
}

}  // namespace trireme::worker
