// WaveDelivery: a StartWave reaches every rank of its wave, whatever the links lose. Pure.
//
//   start(ranks) ─▶ sent to each at once; repeated every kRepeat to those who are not in the wave
//   a new start replaces the one before
//
// Threads: one owner. Bound: one message per rank on the way.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "common/clock.h"
#include "common/id.h"

namespace trireme::coordinator {

class WaveDelivery {
 public:
  static constexpr Duration kRepeat = std::chrono::milliseconds(200);

  void start(const std::set<EngineId>& ranks);

  // To whom it is to be sent now; `outside`: who is not in the wave yet.
  [[nodiscard]] std::vector<EngineId> due(Instant now, const std::set<EngineId>& outside);
  [[nodiscard]] Instant wakeup() const;

 private:
  std::map<EngineId, Instant> send_at_;
};

}  // namespace trireme::coordinator
