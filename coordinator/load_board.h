// LoadBoard: the latest load of every engine, for the front ends. Pure.
//
// A report counts if its sequence is above the last one of the same incarnation; another
// incarnation begins anew (whether it is the live one is ViewState's business, asked before). A
// board goes out when something changed or somebody new wants it, at most every `publish_interval`;
// the coordinator's own figures travel with it.
// Threads: one owner. Bound: one report per rank.
#pragma once

#include <map>
#include <optional>

#include "common/clock.h"
#include "proto/membership.h"

namespace trireme::coordinator {

class LoadBoard {
 public:
  static constexpr Duration kPublishInterval = std::chrono::milliseconds(100);

  // False: late or repeated, changes nothing.
  bool on_report(const wire::LoadReport& report);
  void forget(EngineId engine);
  void note(const wire::CoordinatorStats& stats);
  // For a front end that has just come.
  void say_again();

  [[nodiscard]] std::optional<wire::LoadBoard> tick(Instant now, Epoch epoch);
  [[nodiscard]] Instant wakeup() const;

 private:
  std::map<EngineId, wire::LoadReport> reports_;
  wire::CoordinatorStats stats_;
  Instant published_at_ = Instant::min();
  bool is_changed_ = false;
};

}  // namespace trireme::coordinator
