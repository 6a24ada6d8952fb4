#include "coordinator/wave_delivery.h"

#include <algorithm>

namespace trireme::coordinator {

void WaveDelivery::start(const std::set<EngineId>& ranks) {
  send_at_.clear();
  for (const EngineId rank : ranks) send_at_[rank] = Instant::min();
}

std::vector<EngineId> WaveDelivery::due(Instant now, const std::set<EngineId>& outside) {
  std::vector<EngineId> ranks;
  std::erase_if(send_at_, [&](const auto& entry) { return !outside.contains(entry.first); });
  for (auto& [rank, at] : send_at_) {
    if (at > now) continue;
    ranks.push_back(rank);
    at = now + kRepeat;
  }
  return ranks;
}

Instant WaveDelivery::wakeup() const {
  Instant first = Instant::max();
  for (const auto& [rank, at] : send_at_) first = std::min(first, at);
  return first;
}

}  // namespace trireme::coordinator
