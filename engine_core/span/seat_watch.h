// SeatWatch: what a place does about a step that is late when its engine is elsewhere.
//
// The engine cannot see what workers elsewhere are at; it says which step it waits for
// (GroupKeepAlive), and who started them looks (WorkerWatch). A worker that is behind is named
// after as long as the engine takes to name one, sooner when it stands still, again after twice the
// time, and so on; it is stuck when it has neither shown progress nor used any CPU time for
// `worker_timeout` (longer where it loads experts), or has shown no progress for much longer. Pure.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/id.h"
#include "engine_core/worker_watch.h"

namespace trireme::engine {

class SeatWatch {
 public:
  struct Finding {
    bool is_news = false;           // To be told.
    std::optional<uint32_t> stuck;  // To be killed: this rank.
    std::string text;               // If either: who is behind, and at what.
    wire::Stall stall;              // Likewise; since when nothing moves there.
  };

  SeatWatch(EngineId engine, uint32_t tp_size, Duration worker_timeout);

  // As last heard; 0: no step is late.
  void on_late_step(StepId step, Instant now);
  // When look() is due; Instant::max(): no step is late.
  [[nodiscard]] Instant look_at() const { return look_at_; }
  // All the engine's workers, by rank.
  [[nodiscard]] Finding look(const std::vector<WorkerSighting>& workers, Instant now);

 private:
  WorkerWatch watch_;
  Duration worker_timeout_;
  Duration still_max_;
  StepId late_;
  Instant look_at_ = Instant::max();
  Duration told_after_ = WorkerWatch::kWarning;
  bool is_told_ = false;
};

}  // namespace trireme::engine
