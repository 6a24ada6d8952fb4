#include "common/process/restart_policy.h"

#include <utility>

namespace trireme::process {

void RestartPolicy::on_started(Instant now) {
  if (state_ == ChildState::kRunning) return;
  if (state_ == ChildState::kBackingOff) ++restarts_total_;
  if (state_ != ChildState::kBackingOff) deaths_in_a_row_ = 0;
  state_ = ChildState::kRunning;
  started_at_ = now;
}

void RestartPolicy::on_exited(Instant now, std::string reason) {
  if (state_ == ChildState::kStopped || state_ == ChildState::kGivenUp) return;
  const bool was_healthy =
      state_ == ChildState::kRunning && now - started_at_ >= options_.healthy_after;
  deaths_in_a_row_ = was_healthy ? 1 : deaths_in_a_row_ + 1;
  last_reason_ = std::move(reason);
  if (deaths_in_a_row_ > options_.restarts_max) {
    state_ = ChildState::kGivenUp;
    return;
  }
  state_ = ChildState::kBackingOff;
  restart_at_ = now + backoff();
}

void RestartPolicy::on_stopped() {
  state_ = ChildState::kStopped;
  deaths_in_a_row_ = 0;
}

std::optional<Instant> RestartPolicy::restart_at() const {
  if (state_ != ChildState::kBackingOff) return std::nullopt;
  return restart_at_;
}

Duration RestartPolicy::backoff() const {
  Duration wait = options_.backoff_min;
  for (uint32_t death = 1; death < deaths_in_a_row_ && wait < options_.backoff_max; ++death) {
    wait *= 2;
  }
  return wait < options_.backoff_max ? wait : options_.backoff_max;
}

}  // namespace trireme::process
