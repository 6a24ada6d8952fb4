// What joins a worker process to its engine: the queues and groups behind the descriptors that it
// inherited (worker_flags.h).
//
//   steps    ring 0 of a queue; reader = rank % readers
//   results  a queue with a ring per worker (or one of its own); ring = rank % rings
// so that a node that runs some of an engine's ranks, in order, needs no more than their number.
// Its sign of life is the note of that ring. An engine on another node is reached by its endpoints
// instead, and so are ranks there; the sign of life is then in memory that its parent looks at.
// Threads: one.
#pragma once

#include <memory>

#include "common/options/serve_options.h"
#include "common/shm/shm_queue.h"
#include "common/status.h"
#include "common/zmq/context.h"
#include "worker/worker_core.h"
#include "worker/worker_flags.h"

namespace trireme::worker {

// A peer that is slower than this by so much has died or hangs.
inline constexpr Duration kPeerLimit = std::chrono::seconds(120);
// Where somebody looks at the workers, who gives one without progress up after 300 s
// (engine_core/worker_watch.h).
inline constexpr Duration kWatchedPeerLimit = std::chrono::seconds(400);

struct PeerReach {
  const zmq::Context* context = nullptr;  // Where a peer is on another node; outlives the links.
  Duration limit = kPeerLimit;
  LifeSigns life;  // Shows the waits for them.
};

[[nodiscard]] StatusOr<WorkerPlace> place_of(const ServeOptions& options, uint32_t rank);

// Takes over the descriptors of the collective and the pipes. Errors name the flag's part.
[[nodiscard]] StatusOr<WorkerLinks> join_peers(const WorkerFlags& flags, const WorkerPlace& place,
                                               const PeerReach& reach = {});

// Runs until the engine stops it, on what `factory` makes; what it returns is why the process ends.
[[nodiscard]] Status run_worker_process(const WorkerFlags& flags, const ServeOptions& options,
                                        DeviceFactory& factory);

}  // namespace trireme::worker
