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
  look_while_records_are_awaited(now);
  return count + tell_standing();
}

Status EngineLoop::submit_group_step(Instant now) {
  TRIREME_RETURN_IF_ERROR(join_wave());
  step_begins(now);
  const WaveId wave = group_->lockstep().wave();
  if (group_->lockstep().owes_step()) {
    group_step_ = GroupStep::kOwn;
    last_step_ = own_step_;
    return executor_.submit({.step = own_step_, .wave = wave, .kind = wire::StepKind::kAgain}, now);
  }
  const wire::StepInput* const step = has_group_work() ? scheduler_.schedule(now) : nullptr;
  if (step != nullptr) {
    group_step_ = GroupStep::kOwn;
    own_step_ = last_step_ = step->step;
    return executor_.submit(*step, now);
  }
  group_step_ = GroupStep::kDummy;
  const StepId dummy = last_step_ = own_step_.next();
  return executor_.submit({.step = dummy, .wave = wave, .kind = wire::StepKind::kDummy}, now);
}

// They have given their step back, but what they said to others may still lie in their queues: one
// that is stopped then looks to the others like a link that is cut.
void EngineLoop::look_while_records_are_awaited(Instant now) {
  const bool is_awaited = group_->lockstep().phase() == Phase::kAgreeing && last_step_ != StepId{};
  if (!is_awaited) {
    if (std::exchange(record_look_at_, Instant::max()) == Instant::max()) return;
    executor_.end_watch();
    if (group_->lockstep().phase() != Phase::kRunning) step_ends();
    return;
  }
  if (record_look_at_ == Instant::max()) record_look_at_ = now + WorkerWatch::kInterval;
  if (now < record_look_at_ || is_over_) return;
  record_look_at_ = now + WorkerWatch::kInterval;
  const LateStep late = executor_.watch_step(last_step_, now);
  group_->note_own_fault(late.behind.has_value());
  if (!late.behind) return step_ends();
  if (end_if_stuck(last_step_, late, now) || late.still < LockstepGroup::kLate) return;
  tell_of_worker_behind(late, now);
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
  const bool leaves = is_draining_ && !scheduler_.has_requests();
  const auto standing = group_->take_standing(has_group_work(), leaves);
  if (!standing) return 0;
  (void)channel_.standings.push(WaveStanding(*standing));
  channel_.io_bell.ring();
  return 1;
}

}  // namespace trireme::engine
