#include "engine_core/lockstep/lockstep_group.h"

#include <sched.h>

#include <string>
#include <utility>

#include "common/status.h"
#include "engine_core/stall_log.h"

namespace trireme::engine {

using Phase = Lockstep::Phase;

LockstepGroup::LockstepGroup(EngineId self, std::unique_ptr<StepExchange> exchange)
    : self_(self), exchange_(std::move(exchange)), lockstep_(self) {}

void LockstepGroup::on_start(const wire::StartWave& start,
                             const std::vector<std::string>& node_names) {
  const WaveId before = lockstep_.wave();
  lockstep_.on_start(start);
  if (lockstep_.wave() != before) forget_lateness();
  const std::size_t count = std::min(start.ranks.size(), node_names.size());
  for (std::size_t i = 0; i < count; ++i) node_names_[start.ranks[i]] = node_names[i];
}

std::string LockstepGroup::node_of(uint32_t rank) const {
  const auto found = node_names_.find(rank);
  return found == node_names_.end() ? "" : found->second;
}

std::optional<StepSummary> LockstepGroup::gather() {
  return exchange_->gather(lockstep_.wave(), lockstep_.step(), lockstep_.ranks());
}

std::vector<uint32_t> LockstepGroup::missing() {
  return exchange_->missing(lockstep_.wave(), lockstep_.step(), lockstep_.ranks());
}

bool LockstepGroup::has_news() {
  return lockstep_.phase() == Phase::kAgreeing && gather().has_value();
}

bool LockstepGroup::spin() {
  if (lockstep_.phase() != Phase::kAgreeing) return false;
  const Instant end = now() + spin_budget_.get();
  bool is_there = has_news();
  while (!is_there && now() < end) {
    ::sched_yield();  // The rank that is awaited may need this core.
    is_there = has_news();
  }
  return is_there;
}

bool LockstepGroup::advance(bool has_work, Instant now) {
  if (lockstep_.phase() == Phase::kAsleep) await_wave(has_work, now);
  while (true) {
    if (lockstep_.phase() == Phase::kReady) {
      if (entered_ != lockstep_.wave()) {
        entered_ = lockstep_.wave();
        exchange_->enter(lockstep_.start());
      }
      exchange_->post(lockstep_.post(has_work), lockstep_.ranks());
      posted_at_ = now;
      late_at_ = now + kLate;
      repeat_at_ = now + kRepeat;
    }
    if (lockstep_.phase() != Phase::kAgreeing) return false;
    const auto all = gather();
    if (!all) {
      if (now >= repeat_at_) {
        exchange_->repeat();
        repeat_at_ = now + kRepeat;
        if (now - posted_at_ >= kLate && !has_own_fault_) awaits_ = missing();
      }
      return false;
    }
    spin_budget_.learn(now - posted_at_);
    forget_lateness();
    if (lockstep_.on_agreed(*all) == StepOrder::kRun) return true;
  }
}

void LockstepGroup::on_step_done(bool is_abandoned) {
  awaits_.clear();
  lockstep_.on_step_done(is_abandoned);
}

void LockstepGroup::note_own_fault(bool is_there) {
  has_own_fault_ = is_there;
  if (!is_there) return;
  awaits_.clear();
  stall_.clear();
  stall_facts_.reset();
}

std::optional<WaveStanding> LockstepGroup::take_standing(bool has_work, bool leaves) {
  const WaveStanding standing{
      .event = kind_of_standing(has_work, leaves), .wave = lockstep_.wave(), .awaits = awaits_};
  if (standing == standing_) return std::nullopt;
  return standing_ = standing;
}

wire::WaveEventKind LockstepGroup::kind_of_standing(bool has_work, bool leaves) const {
  using wire::WaveEventKind;
  const bool sleeps = lockstep_.phase() == Phase::kAsleep;
  if (!sleeps || lockstep_.is_out()) {
    return leaves ? WaveEventKind::kLeaving : WaveEventKind::kRunning;
  }
  return has_work || lockstep_.has_untold_wish() ? WaveEventKind::kStart : WaveEventKind::kComplete;
}

bool LockstepGroup::is_free_to_go(bool is_idle, Instant now) {
  const bool sleeps = lockstep_.phase() == Phase::kAsleep;
  has_left_wave_ = has_left_wave_ || !sleeps;
  if (!sleeps || !is_idle) {
    stays_until_ = Instant::max();
    return false;
  }
  if (stays_until_ == Instant::max()) stays_until_ = has_left_wave_ ? now + kLastRecord : now;
  return now >= stays_until_;
}

void LockstepGroup::forget_lateness() {
  late_at_ = repeat_at_ = Instant::max();
  stall_.clear();
  stall_facts_.reset();
  awaits_.clear();
  has_own_fault_ = false;
}

void LockstepGroup::await_wave(bool has_work, Instant now) {
  if (!has_work) return forget_lateness();
  if (late_at_ != Instant::max()) return;
  posted_at_ = now;
  late_at_ = now + kLate;
}

bool LockstepGroup::watch(Instant now) {
  const Phase phase = lockstep_.phase();
  if (now < late_at_ || (phase != Phase::kAgreeing && phase != Phase::kAsleep)) return false;
  if (has_own_fault_) {
    late_at_ = now + kRepeat;
    return false;
  }
  const double waited = std::chrono::duration<double>(now - posted_at_).count();
  if (phase == Phase::kAgreeing) {
    tell_who_is_missing(waited);
  } else {
    tell_of_no_wave(waited);
  }
  late_at_ = posted_at_ + 2 * (now - posted_at_);
  return true;
}

void LockstepGroup::tell_who_is_missing(double waited) {
  std::vector<uint32_t> ranks = missing();
  std::string awaited;
  for (const uint32_t rank : ranks) {
    awaited += (awaited.empty() ? "" : ",") + std::to_string(rank);
  }
  stall_ = absl::StrFormat("wave %u step %u: no record of rank %s for %.1f s",
                           wave_number(lockstep_.wave()), lockstep_.step(), awaited, waited);
  ranks.resize(std::min(ranks.size(), wire::Stall::kAwaitedRanksMax));
  tell({.phase = wire::StallPhase::kExchange, .awaited_ranks = std::move(ranks)}, waited);
}

void LockstepGroup::tell_of_no_wave(double waited) {
  stall_ = absl::StrFormat("no wave has started for %.1f s: the coordinator is awaited", waited);
  tell({.phase = wire::StallPhase::kQueue}, waited);
}

void LockstepGroup::tell(wire::Stall stall, double waited) {
  stall.epoch = lockstep_.start().epoch;
  stall.step = lockstep_.step();
  stall.milliseconds = static_cast<uint32_t>(waited * 1000);
  log_stall({.event = "lockstep_waits",
             .wave = lockstep_.wave(),
             .stall = stall,
             .text = stall_,
             .node_of = [this](uint32_t rank) { return node_of(rank); }});
  stall_facts_ = std::move(stall);
}

}  // namespace trireme::engine
