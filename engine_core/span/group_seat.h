// GroupSeat: the other nodes' half of joining an engine's workers (proto/worker_group.h, and
// group_host.h for the engine's half), as a pure state machine.
//
//   joining ── GroupPlan ─▶ seated ── GroupEnd, or the host is silent for a lease ─▶ over
//      └── refused for good, leave() ──────────────────────────────────────────────▶ over
//
// One object is one attempt: after `over` the owner kills its workers, makes new listeners, and
// begins again with a new incarnation; so what an older attempt still gets is never mixed up.
// Joining has no end of its own: the engine may come any time later.
// Threads: one owner. Time never goes back.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "engine_core/span/group_host.h"
#include "proto/worker_group.h"

namespace trireme::engine {

class GroupSeat {
 public:
  static constexpr Duration kHelloInterval = std::chrono::milliseconds(250);

  GroupSeat(wire::GroupHello hello, Instant now);

  void on_message(Instant now, const ToSeat& message);
  void tick(Instant now);
  [[nodiscard]] Instant wakeup() const;
  [[nodiscard]] std::vector<FromSeat> take_outgoing();

  // Says why to the host. Over from here on.
  void leave(const Status& why);

  [[nodiscard]] bool is_seated() const { return phase_ == Phase::kSeated; }
  [[nodiscard]] bool is_over() const { return phase_ == Phase::kOver; }
  // While it is seated.
  [[nodiscard]] const wire::GroupPlan& plan() const { return plan_; }
  [[nodiscard]] bool is_serving() const { return is_serving_; }
  // The step that the engine waits for too long, as far as we have heard; 0: none.
  [[nodiscard]] StepId late_step() const { return late_step_; }
  // Once over. kFailedPrecondition: refused for good. kUnavailable: the group has ended;
  // kCancelled: because its engine was told to stop.
  [[nodiscard]] const Status& why() const { return why_; }
  // Why the host has not taken us yet; for people.
  [[nodiscard]] const std::string& told() const { return told_; }

 private:
  enum class Phase : uint8_t { kJoining, kSeated, kOver };

  void on(Instant now, const wire::GroupPlan& plan);
  void on(Instant now, const wire::GroupRefuse& refuse);
  void on(Instant now, const wire::GroupKeepAlive& alive);
  void on(Instant now, const wire::GroupEnd& end);
  void finish(const Status& why);
  [[nodiscard]] Duration lease() const {
    return std::chrono::milliseconds(plan_.lease_milliseconds);
  }

  wire::GroupHello hello_;
  Phase phase_ = Phase::kJoining;
  wire::GroupPlan plan_;
  bool is_serving_ = false;
  StepId late_step_;
  Instant speak_at_;
  Instant heard_at_;
  std::string told_;
  Status why_ = absl::OkStatus();
  std::vector<FromSeat> outgoing_;
};

}  // namespace trireme::engine
