// Worker node: what `engine-core --headless` is with --node-rank above 0: the parent of the workers
// that engines on node 0 have here.
//
//   engine-core --headless --nnodes 2 --node-rank 1 ...        worker node
//     ├ engine-core ... --internal-engine-rank 0 ─ worker, worker      (engine_core/span/)
//     └ engine-core ... --internal-engine-rank 1 ─ worker, worker
//
// One process per engine of --data-parallel-size-local; one that dies is started again (back-off
// 100 ms to 30 s), without end, but for what a person must mend (another configuration than the
// engine's); one whose main loop stands still for --distributed-timeout-seconds is killed. An
// engine that cannot be reached is waited for, in any start order. It is no member of the cluster:
// the engine speaks for its workers.
//
// Stop: SIGTERM goes to all; at a second signal, or kStopGrace later, they are killed.
// Threads: call it on the main thread, after StopSignal::install().
#pragma once

#include <span>

#include "common/options/serve_options.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::engine {

// `arguments`: the command line without the program's name.
[[nodiscard]] Status run_worker_node(const ServeOptions& options,
                                     std::span<const char* const> arguments, StopSignal& stop);

}  // namespace trireme::engine
