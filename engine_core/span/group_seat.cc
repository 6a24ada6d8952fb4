#include "engine_core/span/group_seat.h"

#include <algorithm>
#include <utility>

namespace trireme::engine {

GroupSeat::GroupSeat(wire::GroupHello hello, Instant now)
    : hello_(std::move(hello)), speak_at_(now), heard_at_(now) {}

void GroupSeat::on_message(Instant now, const ToSeat& message) {
  if (phase_ == Phase::kOver) return;
  std::visit(
      [&](const auto& known) {
        if (known.incarnation == hello_.incarnation) on(now, known);
      },
      message);
}

void GroupSeat::on(Instant now, const wire::GroupPlan& plan) {
  if (phase_ == Phase::kSeated) {
    if (plan.group != plan_.group) {
      finish(error(StatusCode::kUnavailable, "the engine was started anew"));
    }
    return;
  }
  if (plan.lease_milliseconds == 0) return;  // Not a sound plan.
  phase_ = Phase::kSeated;
  plan_ = plan;
  heard_at_ = now;
  speak_at_ = now;
}

void GroupSeat::on(Instant, const wire::GroupRefuse& refuse) {
  if (phase_ == Phase::kSeated) return;  // An answer to an older Hello.
  told_ = refuse.reason;
  if (refuse.is_final) finish(Status(StatusCode::kFailedPrecondition, refuse.reason));
}

void GroupSeat::on(Instant now, const wire::GroupKeepAlive& alive) {
  if (phase_ != Phase::kSeated || alive.group != plan_.group) return;
  heard_at_ = now;
  is_serving_ |= alive.is_serving;
  late_step_ = alive.late_step;
}

void GroupSeat::on(Instant, const wire::GroupEnd& end) {
  if (phase_ == Phase::kJoining) {
    told_ = end.reason;  // An engine that is ending; the next one is waited for.
  } else if (end.group == plan_.group) {
    finish(
        Status(end.was_asked_for ? StatusCode::kCancelled : StatusCode::kUnavailable, end.reason));
  }
}

void GroupSeat::tick(Instant now) {
  if (phase_ == Phase::kOver) return;
  if (phase_ == Phase::kSeated && now - heard_at_ >= lease()) {
    return finish(error(StatusCode::kUnavailable, "nothing heard from the engine for %.3g s",
                        std::chrono::duration<double>(lease()).count()));
  }
  if (now < speak_at_) return;
  if (phase_ == Phase::kJoining) {
    outgoing_.emplace_back(hello_);
    speak_at_ = now + kHelloInterval;
  } else {
    outgoing_.emplace_back(
        wire::GroupKeepAlive{.group = plan_.group, .incarnation = hello_.incarnation});
    speak_at_ = now + lease() / 4;
  }
}

Instant GroupSeat::wakeup() const {
  if (phase_ == Phase::kOver) return Instant::max();
  return phase_ == Phase::kSeated ? std::min(speak_at_, heard_at_ + lease()) : speak_at_;
}

void GroupSeat::leave(const Status& why) {
  if (phase_ == Phase::kOver) return;
  outgoing_.emplace_back(wire::GroupEnd{.group = plan_.group,
                                        .incarnation = hello_.incarnation,
                                        .reason = std::string(why.message())});
  finish(why);
}

void GroupSeat::finish(const Status& why) {
  phase_ = Phase::kOver;
  why_ = why;
}

std::vector<FromSeat> GroupSeat::take_outgoing() { return std::exchange(outgoing_, {}); }

}  // namespace trireme::engine
