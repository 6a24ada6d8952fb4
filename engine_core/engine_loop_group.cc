// EngineLoop where the rank is one of a lockstep group: one step at a time, when the group runs
// one.
#include <algorithm>
#include <utility>

#include "common/log.h"
#include "engine_core/engine_loop.h"

namespace trireme::engine {

using Phase = Lockstep::Phase;

// While nobody takes its outputs a rank makes no more of them, but steps on with the others.
bool EngineLoop::has_group_work() const {
  const bool is_kept = pause_.mode == PauseMode::kKeep && !is_draining_;
  return scheduler_.has_requests() && !is_kept && !publisher_.is_blocked();
}

int EngineLoop::make_group_step(Instant now) {
  if (is_over_) return 0;
  if (group_->lockstep().phase() == Phase::kRunning) {
    break_off_if_lost();
    tell_standing();
    return 0;
  }
  const bool runs = group_->advance(has_group_work(), now);
  int count = 0;
  if (group_->lockstep().pause() != pause_) {
    ++count;
    hold_pause(group_->lockstep().pause());
  }
  if (group_->watch(now)) publisher_.publish(stats(), false, now);
  if (runs) {
    ++count;
    if (const Status status = submit_group_step(now); !status.ok()) end(status);
  }
  return count + tell_standing();
}

Status EngineLoop::submit_group_step(Instant now) {
  TRIREME_RETURN_IF_ERROR(join_wave());
  step_begins(now);
  const WaveId wave = group_->lockstep().wave();
  if (group_->lockstep().owes_step()) {
    group_step_ = GroupStep::kOwn;
    return executor_.submit({.step = own_step_, .wave = wave, .kind = wire::StepKind::kAgain}, now);
  }
  const wire::StepInput* const step = has_group_work() ? scheduler_.schedule(now) : nullptr;
  if (step != nullptr) {
    group_step_ = GroupStep::kOwn;
    own_step_ = step->step;
    return executor_.submit(*step, now);
  }
  group_step_ = GroupStep::kDummy;
  const StepId dummy = own_step_.next();
  return executor_.submit({.step = dummy, .wave = wave, .kind = wire::StepKind::kDummy}, now);
}

Status EngineLoop::join_wave() {
  const Lockstep& lockstep = group_->lockstep();
  if (joined_ == lockstep.wave()) return absl::OkStatus();
  joined_ = lockstep.wave();
  scheduler_.set_wave(joined_);
  wire::JoinWave join{.wave = joined_, .ranks = lockstep.ranks()};
  const wire::StartWave& start = lockstep.start();
  const auto own = std::ranges::find(start.ranks, config_.engine.value) - start.ranks.begin();
  for (std::size_t i = 0; i < start.addresses.size(); ++i) {
    // The first is the engine's own; of those on this node the workers need none.
    for (std::size_t k = 1; k < start.addresses[i].size(); ++k) {
      const bool is_here = start.nodes[i] == start.nodes[own];
      join.endpoints.push_back(is_here ? "" : start.addresses[i][k]);
    }
  }
  return executor_.join_wave(join);
}

void EngineLoop::break_off_if_lost() {
  if (!group_->lockstep().must_break() || broken_below_ > joined_) return;
  broken_below_ = joined_.next();
  log::warning("step_broken_off", {{"engine", config_.engine.value},
                                   {"wave", wave_number(joined_)},
                                   {"step", group_->lockstep().step()}});
  executor_.abandon_waves(broken_below_);
}

int EngineLoop::collect_group_step(Instant now) {
  int count = 0;
  if (!is_over_ && group_step_ != GroupStep::kNone && take_result(now)) {
    ++count;
    step_ends();
    const bool is_own = std::exchange(group_step_, GroupStep::kNone) == GroupStep::kOwn;
    // Its other workers may be waiting in it still.
    if (result_.is_abandoned) executor_.abandon_waves(joined_.next());
    group_->on_step_done(is_own && result_.is_abandoned);
    if (is_own && !result_.is_abandoned) hand_result_to_scheduler(now);
  }
  look_at_workers(count > 0, now);
  return count;
}

int EngineLoop::tell_standing() {
  const auto standing = group_->take_standing(has_group_work());
  if (!standing) return 0;
  (void)channel_.standings.push(WaveStanding(*standing));
  channel_.io_bell.ring();
  return 1;
}

}  // namespace trireme::engine
