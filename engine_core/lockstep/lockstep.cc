#include "engine_core/lockstep/lockstep.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace trireme::engine {

void Lockstep::on_start(const wire::StartWave& start) {
  if (pending_ && start.wave == pending_->wave) {
    pending_->abandon_below = std::max(pending_->abandon_below, start.abandon_below);
  } else if (start.wave > heard_) {
    heard_ = start.wave;
    pending_ = start;
  }
  enter_if_free();
}

// A running step is waited for: its workers are in the middle of it.
void Lockstep::enter_if_free() {
  if (!pending_ || phase_ == Phase::kRunning) return;
  if (phase_ == Phase::kAsleep || is_lost(*pending_)) enter_pending();
}

void Lockstep::enter_pending() {
  start_ = *std::exchange(pending_, std::nullopt);
  wave_ = start_.wave;
  step_ = 1;
  phase_ = is_out() ? Phase::kAsleep : Phase::kReady;
}

bool Lockstep::is_out() const {
  return wave_ > WaveId{} && !std::ranges::binary_search(start_.ranks, self_.value);
}

StepRecord Lockstep::post(bool has_work) {
  TRIREME_CHECK(phase_ == Phase::kReady, "a record is posted once for each step");
  phase_ = Phase::kAgreeing;
  return {.wave = wave_,
          .step = step_,
          .has_work = has_work || owes_step_,
          .next = pending_ ? pending_->wave : WaveId{},
          .pause = wish_};
}

StepOrder Lockstep::on_agreed(const StepSummary& all) {
  TRIREME_CHECK(phase_ == Phase::kAgreeing, "agreed on what was posted");
  wish_ = std::max(wish_, all.pause);
  pause_ = std::max(pause_, all.pause);
  told_ = std::max(told_, all.pause);
  const StepOrder order = decide(all);
  switch (order) {
    case StepOrder::kRun:
      phase_ = Phase::kRunning;
      break;
    case StepOrder::kSwitch:
      TRIREME_CHECK(pending_ && pending_->wave == all.next_low, "we have posted it ourselves");
      enter_pending();
      break;
    case StepOrder::kEnd:
      phase_ = Phase::kAsleep;
      pause_ = wish_;  // Asked for since this rank posted: there is no later step to agree on it.
      enter_if_free();
      break;
  }
  return order;
}

void Lockstep::on_step_done(bool is_abandoned) {
  TRIREME_CHECK(phase_ == Phase::kRunning, "a step was running");
  owes_step_ = is_abandoned;
  ++step_;
  phase_ = Phase::kReady;
  enter_if_free();
}

void Lockstep::wish_pause(const PauseWish& wish) {
  wish_ = std::max(wish_, wish);
  if (phase_ == Phase::kAsleep) pause_ = wish_;
}

}  // namespace trireme::engine
