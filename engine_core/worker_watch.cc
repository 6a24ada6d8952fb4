#include "engine_core/worker_watch.h"

#include <algorithm>

#include "common/status.h"

namespace trireme::engine {
namespace {

using worker::LifeSighting;
using worker::WorkerPhase;

const char* name_of_phase(WorkerPhase phase) {
  switch (phase) {
    case WorkerPhase::kUnknown:
      return "out of sight";
    case WorkerPhase::kLoading:
      return "loading";
    case WorkerPhase::kStarting:
      return "the start";
    case WorkerPhase::kReceiving:
      return "a wait for the stage before";
    case WorkerPhase::kAttention:
      return "attention";
    case WorkerPhase::kMlp:
      return "mlp";
    case WorkerPhase::kReducing:
      return "all-reduce";
    case WorkerPhase::kLogits:
      return "logits";
    case WorkerPhase::kSampling:
      return "sampling";
    case WorkerPhase::kSending:
      return "a wait for the stage after";
    case WorkerPhase::kDone:
      return "done";
    case WorkerPhase::kDispatching:
      return "dispatch to experts";
    case WorkerPhase::kComputingExperts:
      return "experts";
    case WorkerPhase::kCombining:
      return "combine of experts";
    case WorkerPhase::kLoadingExperts:
      return "load of experts";
  }
  return "an unknown phase";
}

bool is_waiting(WorkerPhase phase) {
  return phase == WorkerPhase::kReceiving || phase == WorkerPhase::kReducing ||
         phase == WorkerPhase::kSending || phase == WorkerPhase::kDispatching ||
         phase == WorkerPhase::kCombining;
}

bool has_layer(WorkerPhase phase) {
  return phase == WorkerPhase::kAttention || phase == WorkerPhase::kMlp ||
         phase == WorkerPhase::kReducing || phase == WorkerPhase::kDispatching ||
         phase == WorkerPhase::kComputingExperts || phase == WorkerPhase::kCombining ||
         phase == WorkerPhase::kLoadingExperts;
}

// Of one that has begun the step.
wire::StallPhase phase_on_wire(const LifeSighting& life) {
  using wire::StallPhase;
  switch (life.phase) {
    case WorkerPhase::kUnknown:
    case WorkerPhase::kLoading:
      return StallPhase::kUnknown;
    case WorkerPhase::kStarting:
      return StallPhase::kStart;
    case WorkerPhase::kReceiving:
    case WorkerPhase::kSending:
      return StallPhase::kStage;
    case WorkerPhase::kAttention:
      return StallPhase::kAttention;
    case WorkerPhase::kMlp:
      return StallPhase::kMlp;
    case WorkerPhase::kReducing:
      return StallPhase::kReduce;
    case WorkerPhase::kLogits:
      return StallPhase::kLogits;
    case WorkerPhase::kSampling:
      return StallPhase::kSample;
    case WorkerPhase::kDone:
      return StallPhase::kResult;
    case WorkerPhase::kDispatching:
      return StallPhase::kDispatch;
    case WorkerPhase::kComputingExperts:
      return StallPhase::kExpert;
    case WorkerPhase::kCombining:
      return StallPhase::kCombine;
    case WorkerPhase::kLoadingExperts:
      return StallPhase::kLoadExperts;
  }
  return StallPhase::kUnknown;
}

std::string describe_activity(const LifeSighting& life) {
  if (has_layer(life.phase)) {
    return absl::StrFormat("in layer %u (%s) of step %u", life.layer, name_of_phase(life.phase),
                           life.step.value);
  }
  return absl::StrFormat("in %s of step %u", name_of_phase(life.phase), life.step.value);
}

// Or has shown that it waits, no more.
bool has_not_moved(LifeSighting before, const LifeSighting& after) {
  before.waits = after.waits;
  return before == after;
}

double in_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void WorkerWatch::look(const std::vector<WorkerSighting>& workers, Instant now) {
  const bool is_first = workers_.size() != workers.size();
  workers_.resize(workers.size());
  const Duration passed = is_first ? Duration{} : std::min(now - looked_at_, kGapMax);
  looked_at_ = now;
  for (std::size_t rank = 0; rank < workers.size(); ++rank) {
    Worker& worker = workers_[rank];
    const bool is_still = has_not_moved(worker.seen.life, workers[rank].life);
    const process::ProcessState& process = workers[rank].process;
    const bool is_motionless = is_still && worker.seen.process.cpu_ticks == process.cpu_ticks &&
                               worker.seen.process.is_stopped() == process.is_stopped();
    worker.still = is_still ? worker.still + passed : Duration{};
    worker.motionless = is_motionless ? worker.motionless + passed : Duration{};
    const LifeSighting& life = workers[rank].life;
    const bool is_unshown = is_motionless && worker.seen.life.waits == life.waits;
    worker.unshown = is_unshown ? worker.unshown + passed : Duration{};
    const bool is_awaiting = life.awaited && life.awaited == worker.seen.life.awaited &&
                             life.changes == worker.seen.life.changes;
    worker.awaiting = is_awaiting ? worker.awaiting + passed : Duration{};
    worker.seen = workers[rank];
  }
}

bool WorkerWatch::has_begun(const WorkerSighting& seen, StepId late) {
  const LifeSighting& life = seen.life;
  if (life.step != late || life.phase != WorkerPhase::kDone) return life.step >= late;
  return life.begun >= seen.steps_due;
}

wire::StallPhase WorkerWatch::phase_of(const WorkerSighting& seen, StepId late) {
  if (late == kNoStep) return wire::StallPhase::kQueue;
  const bool is_seen = seen.life.phase != WorkerPhase::kUnknown;
  return is_seen && !has_begun(seen, late) ? wire::StallPhase::kQueue : phase_on_wire(seen.life);
}

std::string WorkerWatch::activity_of(const WorkerSighting& seen, StepId late) {
  if (seen.life.phase == WorkerPhase::kUnknown) return "out of sight (its own node tells of it)";
  if (late == kNoStep)
    return seen.owes_answer ? "idle with a call before it" : "done with the call";
  if (has_begun(seen, late)) return describe_activity(seen.life);
  return absl::StrFormat("idle with step %u before it", late.value);
}

bool WorkerWatch::is_frozen(const Worker& worker) {
  return is_waiting(worker.seen.life.phase) && worker.unshown >= kFrozen;
}

bool WorkerWatch::cannot_run(const Worker& worker) {
  return worker.seen.process.is_stopped() || is_frozen(worker);
}

bool WorkerWatch::is_behind(const Worker& worker, StepId late) {
  const LifeSighting& life = worker.seen.life;
  if (life.phase == WorkerPhase::kUnknown) return false;
  if (late == kNoStep) return worker.seen.owes_answer;
  // Whatever it is at: what it has sent may still lie in its own queue to another node.
  if (cannot_run(worker)) return true;
  if (life.step > late) return false;
  return life.phase != WorkerPhase::kDone || !has_begun(worker.seen, late);
}

bool WorkerWatch::is_farther_behind(uint32_t rank, uint32_t other) const {
  const Worker& a = workers_[rank];
  const Worker& b = workers_[other];
  if (cannot_run(a) != cannot_run(b)) return cannot_run(a);
  const bool a_waits = is_waiting(a.seen.life.phase);
  const bool b_waits = is_waiting(b.seen.life.phase);
  if (a_waits != b_waits) return b_waits;
  if (a.seen.life.step != b.seen.life.step) return a.seen.life.step < b.seen.life.step;
  if (rank / tp_size_ == other / tp_size_ && a.seen.life.changes != b.seen.life.changes) {
    return static_cast<int32_t>(a.seen.life.changes - b.seen.life.changes) < 0;
  }
  return a.still > b.still;
}

bool WorkerWatch::has_peer_ahead(uint32_t rank) const {
  const LifeSighting& own = workers_[rank].seen.life;
  for (uint32_t other = 0; other < workers_.size(); ++other) {
    const LifeSighting& life = workers_[other].seen.life;
    if (other / tp_size_ != rank / tp_size_ || life.phase == WorkerPhase::kUnknown) continue;
    if (life.step > own.step) return true;
    if (life.step == own.step && static_cast<int32_t>(life.changes - own.changes) > 0) return true;
  }
  return false;
}

// Is any of these?
bool WorkerWatch::is_out_of_sight(uint32_t first, uint32_t count) const {
  const auto begin = workers_.begin() + first;
  return std::any_of(begin, begin + count, [](const Worker& worker) {
    return worker.seen.life.phase == WorkerPhase::kUnknown;
  });
}

bool WorkerWatch::may_wait_for_unseen(uint32_t rank) const {
  const auto world = static_cast<uint32_t>(workers_.size());
  switch (workers_[rank].seen.life.phase) {
    case WorkerPhase::kReceiving:
      return rank >= tp_size_ && is_out_of_sight(rank - tp_size_, 1);
    case WorkerPhase::kSending:
      return rank + tp_size_ < world && is_out_of_sight(rank + tp_size_, 1);
    case WorkerPhase::kReducing:
      return is_out_of_sight(rank / tp_size_ * tp_size_, tp_size_);
    case WorkerPhase::kDispatching:
    case WorkerPhase::kCombining:
      return true;  // The wave's other ranks.
    default:
      return false;
  }
}

std::optional<WorkerWatch::Behind> WorkerWatch::find_behind(StepId late) const {
  std::optional<uint32_t> behind;
  for (uint32_t rank = 0; rank < workers_.size(); ++rank) {
    if (!is_behind(workers_[rank], late)) continue;
    if (!behind || is_farther_behind(rank, *behind)) behind = rank;
  }
  if (!behind) return std::nullopt;
  const Worker& worker = workers_[*behind];
  const bool is_clear = cannot_run(worker) || !is_waiting(worker.seen.life.phase) ||
                        (has_peer_ahead(*behind) && !may_wait_for_unseen(*behind));
  if (!is_clear) return std::nullopt;
  const bool is_loading = worker.seen.life.phase == WorkerPhase::kLoadingExperts &&
                          worker.seen.life.step == late && !worker.seen.process.is_stopped();
  return Behind{*behind, worker.still, worker.motionless, is_loading};
}

std::optional<uint32_t> WorkerWatch::awaited_by(uint32_t rank) const {
  if (workers_[rank].unshown >= kAwaitingShown) return std::nullopt;
  const std::optional<uint32_t> place = workers_[rank].seen.life.awaited;
  if (!place || *place / tp_size_ == engine_.value) return std::nullopt;
  return *place / tp_size_;
}

std::vector<uint32_t> WorkerWatch::find_awaited_ranks() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < workers_.size(); ++rank) {
    const std::optional<uint32_t> awaited = awaited_by(rank);
    if (awaited && workers_[rank].awaiting >= kAwaiting) ranks.push_back(*awaited);
  }
  std::ranges::sort(ranks);
  ranks.erase(std::ranges::unique(ranks).begin(), ranks.end());
  return ranks;
}

wire::Stall WorkerWatch::facts(StepId late) const {
  wire::Stall stall;
  if (const std::optional<Behind> behind = find_behind(late)) {
    const WorkerSighting& seen = workers_[behind->rank].seen;
    stall.phase = phase_of(seen, late);
    // Dummy steps share a number: what it is done with is the one before.
    if (stall.phase == wire::StallPhase::kResult) stall.phase = wire::StallPhase::kQueue;
    stall.worker_pid = seen.pid;
    return stall;
  }
  for (uint32_t rank = 0; rank < workers_.size(); ++rank) {
    if (!is_behind(workers_[rank], late)) continue;
    const std::optional<uint32_t> awaited = awaited_by(rank);
    if (awaited || stall.phase == wire::StallPhase::kUnknown) {
      stall.phase = phase_of(workers_[rank].seen, late);
    }
    if (!awaited) continue;
    stall.awaited_ranks = {*awaited};
    break;
  }
  return stall;
}

std::string WorkerWatch::place_of(uint32_t rank) const {
  const bool has_stages = workers_.size() > tp_size_;
  const std::string tp = "tp" + std::to_string(rank % tp_size_);
  return has_stages ? "pp" + std::to_string(rank / tp_size_) + " " + tp : tp;
}

std::string WorkerWatch::name_of(uint32_t rank) const {
  return absl::StrFormat("rank %u worker %s (pid %u)", engine_.value, place_of(rank),
                         workers_[rank].seen.pid);
}

std::string WorkerWatch::describe(StepId late) const {
  const std::optional<Behind> behind = find_behind(late);
  if (!behind) {
    std::string text = "no worker in sight is behind the others";
    for (uint32_t rank = 0; rank < workers_.size(); ++rank) {
      text += (rank == 0 ? ": " : ", ") + place_of(rank) + " is " +
              activity_of(workers_[rank].seen, late);
    }
    return text;
  }
  const Worker& worker = workers_[behind->rank];
  std::string text = name_of(behind->rank);
  if (worker.seen.process.is_stopped()) {
    text += absl::StrFormat(" is stopped (process state %c) and", worker.seen.process.letter);
  }
  if (!worker.seen.process.is_stopped() && is_frozen(worker)) {
    text += absl::StrFormat(" shows no sign of life (process state %c) and",
                            worker.seen.process.letter);
  }
  text += absl::StrFormat(" has been %s for %.1f s", activity_of(worker.seen, late),
                          in_seconds(worker.still));
  return text + describe_others(behind->rank, late);
}

std::string WorkerWatch::describe_others(uint32_t behind, StepId late) const {
  std::string waiting;
  bool all_reduce = true;
  for (uint32_t rank = 0; rank < workers_.size(); ++rank) {
    const LifeSighting& life = workers_[rank].seen.life;
    if (rank == behind || !is_behind(workers_[rank], late)) continue;
    all_reduce = all_reduce && life.phase == WorkerPhase::kReducing;
    waiting += (waiting.empty() ? "; " : ", ") + place_of(rank) + " is " +
               activity_of(workers_[rank].seen, late);
  }
  if (!waiting.empty() && all_reduce) return "; the others wait for it in all-reduce";
  return waiting;
}

}  // namespace trireme::engine
