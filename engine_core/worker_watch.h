// WorkerWatch: which worker a late step waits for, what that one is at, and how long it has not
// moved. Pure: what was seen of the workers, and when, come in.
//
//   behind   a process that cannot run before all others: stopped, or frozen; else who computes
//            before who waits for another; else, of one stage, who has come less far. Who runs and
//            has the step's result is not behind; of those that cannot be seen (other nodes)
//            nothing is said, and when all in sight wait, and none is farther than its peers, or
//            all may wait for one out of sight, nobody is named.
//   still       how long its sign of life has not changed
//   motionless  and meanwhile its process has used no CPU time either; of one that is stopped,
//   since
//               then: it may have had nothing to do before
//   frozen  it waits for others, and does not even show that (worker/sign_of_life.h): a cgroup
//           is frozen, or the kernel does not let go of it
//   awaiting    how long it has waited, without a break, for the same place of a wave
// Time counts only while somebody looks: the engine may have been stopped as well.
// Threads: one owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/id.h"
#include "common/process/process_state.h"
#include "proto/engine_outputs.h"
#include "worker/sign_of_life.h"

namespace trireme::engine {

struct WorkerSighting {
  uint32_t pid = 0;
  worker::LifeSighting life;  // kUnknown: out of sight.
  process::ProcessState process;
  uint64_t steps_due = 0;    // That it was sent, up to the one that is late; 0: not known.
  bool owes_answer = false;  // To a call between steps.
};

class WorkerWatch {
 public:
  // How often a late step is to be looked at. A pause longer than kGapMax counts as that.
  static constexpr Duration kInterval = std::chrono::milliseconds(250);
  static constexpr Duration kGapMax = std::chrono::seconds(1);
  // A step that takes longer is told of.
  static constexpr Duration kWarning = std::chrono::seconds(5);
  // And one whose worker has been motionless for so long: no honest step takes its time that way.
  static constexpr Duration kMotionlessWarning = std::chrono::seconds(2);
  // Who waits for others shows it far more often (worker::LifeSigns::kShowWait).
  static constexpr Duration kFrozen = std::chrono::milliseconds(1500);
  // What is late is a call between steps: behind is who has not answered.
  static constexpr StepId kNoStep{};
  // Without progress for so long a worker is stuck, whether or not it uses CPU time.
  static constexpr Duration kStillMax = std::chrono::seconds(300);
  // A disk may take longer for a piece (worker/weights/safetensors.h) than a worker may stand
  // still.
  static constexpr Duration kLoadingMax = std::chrono::seconds(60);
  // A wait for a place of a wave counts from then on. It is shown when nothing has come of it for
  // half a second (worker/comm/remote_mesh.h).
  static constexpr Duration kAwaiting = std::chrono::milliseconds(500);
  // And no longer when no sign of it has come for so long.
  static constexpr Duration kAwaitingShown = std::chrono::seconds(1);

  struct Behind {
    uint32_t rank;
    Duration still;
    Duration motionless;
    bool is_loading = false;  // Experts, and nobody has stopped it.
  };

  WorkerWatch(EngineId engine, uint32_t tp_size) : engine_(engine), tp_size_(tp_size) {}

  // How long a worker may be motionless, where others may be so for `worker_timeout`.
  [[nodiscard]] static Duration motionless_max(bool is_loading, Duration worker_timeout) {
    return is_loading ? std::max(worker_timeout, kLoadingMax) : worker_timeout;
  }

  // What is looked at from now on is another step, or a wait after it: no time of before counts.
  void begin() { workers_.clear(); }
  // All workers, by rank.
  void look(const std::vector<WorkerSighting>& workers, Instant now);
  [[nodiscard]] std::optional<Behind> find_behind(StepId late) const;
  // The data-parallel ranks that workers wait for in a wave, ascending. Ask only where nobody here
  // is behind.
  [[nodiscard]] std::vector<uint32_t> find_awaited_ranks() const;
  // "rank 1 worker tp0 (pid 4711) has been in layer 3 (attention) of step 812 for 5.0 s; the others
  // wait for it in an all-reduce"
  [[nodiscard]] std::string describe(StepId late) const;
  // The same in fields: of who is behind, else of the first in sight that waits for another rank.
  [[nodiscard]] wire::Stall facts(StepId late) const;
  // "rank 1 worker tp0 (pid 4711)"
  [[nodiscard]] std::string name_of(uint32_t rank) const;

 private:
  struct Worker {
    WorkerSighting seen;
    Duration still{};
    Duration motionless{};
    Duration unshown{};  // And of a wait there was no sign either.
    Duration awaiting{};
  };

  // Dummy steps, and a step that is run again, have the number of the one before.
  [[nodiscard]] static bool has_begun(const WorkerSighting& seen, StepId late);
  [[nodiscard]] static wire::StallPhase phase_of(const WorkerSighting& seen, StepId late);
  [[nodiscard]] static std::string activity_of(const WorkerSighting& seen, StepId late);
  [[nodiscard]] static bool is_frozen(const Worker& worker);
  [[nodiscard]] static bool cannot_run(const Worker& worker);
  [[nodiscard]] static bool is_behind(const Worker& worker, StepId late);
  [[nodiscard]] bool is_farther_behind(uint32_t rank, uint32_t other) const;
  [[nodiscard]] bool has_peer_ahead(uint32_t rank) const;
  [[nodiscard]] bool is_out_of_sight(uint32_t first, uint32_t count) const;
  [[nodiscard]] bool may_wait_for_unseen(uint32_t rank) const;
  // The rank of the wave that it waits for.
  [[nodiscard]] std::optional<uint32_t> awaited_by(uint32_t rank) const;
  [[nodiscard]] std::string place_of(uint32_t rank) const;
  [[nodiscard]] std::string describe_others(uint32_t behind, StepId late) const;

  EngineId engine_;
  uint32_t tp_size_;
  std::vector<Worker> workers_;
  Instant looked_at_{};
};

}  // namespace trireme::engine
