// RemoteWorkers: an engine's workers at other places, as its executor sees them: a sender of steps,
// and answers that come into the executor's own result rings, as if they were here.
//
//   main thread ── steps ──▶ RemoteSender ══> workers elsewhere
//   result rings ◀── eng<r>/relay ◀── RemoteReceiver <══ workers elsewhere
//                    eng<r>/group: who is there, who has died (group_thread.h)
//
// Threads: the owner's, beside those two. Lifetime: the result queue and the bell outlive it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/message_queue.h"
#include "common/options/serve_options.h"
#include "common/shm/shm_queue.h"
#include "common/signals.h"
#include "common/status.h"
#include "engine_core/bell.h"
#include "engine_core/span/listeners.h"
#include "proto/worker_group.h"

namespace trireme::engine {

class RemoteWorkers {
 public:
  // Listens for the other places. `results`: a ring for each of the engine's workers.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteWorkers>> start(
      const ServeOptions& options, const shm::QueueMemory& results, Bell& bell);
  ~RemoteWorkers();

  // Without end, for the others may come any time later; kCancelled when told to stop.
  [[nodiscard]] Status wait_until_formed(StopSignal& stop);
  // Once formed.
  [[nodiscard]] const wire::GroupPlan& plan() const;
  // Of our own place; for its workers. Closed by close_listeners(), once these have them.
  [[nodiscard]] const std::vector<Listener>& listeners() const;
  void close_listeners();

  [[nodiscard]] MessageSender& steps();
  // Not OK once a worker, its node or the link to it is gone.
  [[nodiscard]] Status health() const;
  void set_serving();
  // The places elsewhere look at their workers while it is not 0.
  void set_late_step(StepId step);
  // The workers elsewhere are ended by their parents, who are told why.
  void stop(const Status& why) noexcept;

 private:
  struct Parts;
  explicit RemoteWorkers(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// What all places of an engine must agree on: the flags, the version, and what model it is.
[[nodiscard]] StatusOr<std::vector<wire::ConfigEntry>> group_config(const ServeOptions& options);

}  // namespace trireme::engine
