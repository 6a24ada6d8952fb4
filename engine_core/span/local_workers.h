// LocalWorkers: the worker processes of one place (all of an engine's, or one node's share), and
// the memory that they share. The memory is memfd: it ends with the last process.
// A worker that ends, however it does, is noticed by its pidfd at once and named with rank, pid and
// exit code or signal. Threads: one owner. Destruction kills and reaps them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/process/child_process.h"
#include "common/shm/mapping.h"
#include "common/status.h"
#include "engine_core/span/listeners.h"
#include "engine_core/span/worker_span.h"
#include "engine_core/worker_watch.h"
#include "proto/worker_group.h"

namespace trireme::engine {

// Either the engine's queues, where it is at this place, or (steps_fd -1) where it is elsewhere.
struct EngineLink {
  int steps_fd = -1;
  int results_fd = -1;
  std::string steps_endpoint;
  std::string results_endpoint;
};

struct LocalWorkersConfig {
  WorkerSpan span;
  uint32_t place = 0;
  std::string_view program = "worker";  // Beside this one, or in ../bin.
  EngineLink engine;
  uint64_t group = 0;                         // Where there is more than one place.
  std::vector<wire::RankListener> elsewhere;  // Where the ranks of other places listen.
  std::vector<std::string> command_line;      // The engine's own, for the workers.
  std::vector<int> weight_fds;  // Of the ranks here, in order: images of weights; or empty.
  std::vector<int> mesh_fds;    // By stage: what carries rows between experts; or empty.
};

class LocalWorkers {
 public:
  // `listeners`: of this place; the workers inherit them.
  [[nodiscard]] Status start(const LocalWorkersConfig& config,
                             const std::vector<Listener>& listeners);
  // Not OK once one has ended: says which, and how. `clean` (may be null) tells whether it ended
  // as if it had been told to.
  [[nodiscard]] Status check(bool* clean = nullptr);
  // All the engine's workers, by rank. Out of sight: those elsewhere, and those whose sign of life
  // is beside the engine's results.
  [[nodiscard]] std::vector<WorkerSighting> look() const;
  // SIGKILL to this rank, if it is here. stop() waits for its end.
  void kill(uint32_t rank) noexcept;
  // Waits for their end until the deadline, then kills them. Leaves who cannot even be killed (its
  // cgroup is frozen, it hangs in the kernel): that one ends as soon as it can run.
  void stop(Deadline deadline) noexcept;

  [[nodiscard]] std::span<const int> pidfds() const { return pidfds_; }
  [[nodiscard]] std::vector<int> pids() const;
  [[nodiscard]] uint32_t first_rank() const { return first_rank_; }

 private:
  uint32_t first_rank_ = 0;
  uint32_t world_size_ = 0;
  std::vector<process::ChildProcess> workers_;  // By rank.
  std::optional<uint32_t> killed_;              // It may not have ended yet.
  std::vector<int> pidfds_;
  std::vector<shm::Mapping> lives_;  // By rank; none where the engine is here.
};

}  // namespace trireme::engine
