// WaveDelivery: a StartWave reaches every rank that is to have it, whatever the links lose. Pure.
//
//   begin() ─▶ to each rank that is untold at once, and every kRepeat until it is not
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

  void begin() { send_at_.clear(); }

  // To whom it is to be sent now; `untold`: who has not said that it is in the wave, or is to go.
  [[nodiscard]] std::vector<EngineId> due(Instant now, const std::set<EngineId>& untold);
  // When due() has something to do, if nothing else happens.
  [[nodiscard]] Instant wakeup() const;

 private:
  std::map<EngineId, Instant> send_at_;
};

}  // namespace trireme::coordinator
