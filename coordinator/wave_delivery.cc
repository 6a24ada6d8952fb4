#include "coordinator/wave_delivery.h"

#include <algorithm>

namespace trireme::coordinator {

std::vector<EngineId> WaveDelivery::due(Instant now, const std::set<EngineId>& untold) {
  std::vector<EngineId> ranks;
  std::erase_if(send_at_, [&](const auto& entry) { return !untold.contains(entry.first); });
  for (const EngineId rank : untold) send_at_.try_emplace(rank, Instant::min());
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
