#include "engine_core/span/seat_watch.h"

#include <algorithm>

namespace trireme::engine {

SeatWatch::SeatWatch(EngineId engine, uint32_t tp_size, Duration worker_timeout)
    : watch_(engine, tp_size),
      worker_timeout_(worker_timeout),
      still_max_(std::max(WorkerWatch::kStillMax, worker_timeout)) {}

void SeatWatch::on_late_step(StepId step, Instant now) {
  if (step == late_) return;
  late_ = step;
  watch_.begin();
  told_after_ = WorkerWatch::kWarning;
  is_told_ = false;
  look_at_ = step == StepId{} ? Instant::max() : now;
}

SeatWatch::Finding SeatWatch::look(const std::vector<WorkerSighting>& workers, Instant now) {
  look_at_ = now + WorkerWatch::kInterval;
  watch_.look(workers, now);
  Finding found;
  const auto behind = watch_.find_behind(late_);
  if (!behind) return found;
  const bool stands_still = behind->motionless >= WorkerWatch::kMotionlessWarning;
  found.is_news = behind->still >= told_after_ || (stands_still && !is_told_);
  if (found.is_news) {
    told_after_ = 2 * behind->still;
    is_told_ = true;
  }
  const Duration motionless_max = WorkerWatch::motionless_max(behind->is_loading, worker_timeout_);
  if (behind->motionless >= motionless_max || behind->still >= still_max_) {
    found.stuck = behind->rank;
  }
  if (!found.is_news && !found.stuck) return found;
  found.text = watch_.describe(late_);
  found.stall = watch_.facts(late_);
  found.stall.step = late_.value;
  found.stall.milliseconds = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(behind->still).count());
  return found;
}

}  // namespace trireme::engine
