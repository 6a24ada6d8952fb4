#include "engine_core/lockstep/lockstep_group.h"

#include <string>
#include <utility>

#include "common/log.h"

namespace trireme::engine {

using Phase = Lockstep::Phase;

LockstepGroup::LockstepGroup(EngineId self, std::unique_ptr<StepExchange> exchange)
    : self_(self), exchange_(std::move(exchange)) {}

void LockstepGroup::on_start(const wire::StartWave& start) {
  const WaveId before = lockstep_.wave();
  lockstep_.on_start(start);
  if (lockstep_.wave() != before) late_at_ = Instant::max();
}

std::optional<StepSummary> LockstepGroup::gather() {
  return exchange_->gather(lockstep_.wave(), lockstep_.step(), lockstep_.ranks());
}

bool LockstepGroup::has_news() {
  return lockstep_.phase() == Phase::kAgreeing && gather().has_value();
}

bool LockstepGroup::advance(bool has_work, Instant now) {
  while (true) {
    if (lockstep_.phase() == Phase::kReady) {
      exchange_->post(lockstep_.post(has_work), lockstep_.ranks());
      posted_at_ = now;
      late_at_ = now + kLate;
    }
    if (lockstep_.phase() != Phase::kAgreeing) return false;
    const auto all = gather();
    if (!all) return false;
    late_at_ = Instant::max();
    if (lockstep_.on_agreed(*all) == StepOrder::kRun) return true;
  }
}

std::optional<WaveStanding> LockstepGroup::take_standing(bool has_work) {
  const bool sleeps = lockstep_.phase() == Phase::kAsleep;
  const WaveStanding standing{.event = !sleeps    ? wire::WaveEventKind::kRunning
                                       : has_work ? wire::WaveEventKind::kStart
                                                  : wire::WaveEventKind::kComplete,
                              .wave = lockstep_.wave()};
  if (standing == standing_) return std::nullopt;
  return standing_ = standing;
}

void LockstepGroup::watch(Instant now) {
  if (now < late_at_ || lockstep_.phase() != Phase::kAgreeing) return;
  std::string awaited;
  for (const uint32_t rank :
       exchange_->missing(lockstep_.wave(), lockstep_.step(), lockstep_.ranks())) {
    awaited += (awaited.empty() ? "" : ",") + std::to_string(rank);
  }
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(now - posted_at_);
  log::warning("lockstep_waits", {{"rank", self_.value},
                                  {"epoch", lockstep_.epoch().value},
                                  {"wave", lockstep_.wave().value},
                                  {"step", lockstep_.step()},
                                  {"phase", "exchange"},
                                  {"awaits_ranks", awaited},
                                  {"milliseconds", waited.count()}});
  late_at_ = posted_at_ + 2 * (now - posted_at_);
}

}  // namespace trireme::engine
