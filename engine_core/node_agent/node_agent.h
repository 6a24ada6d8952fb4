// Node agent: the parent of this node's engine ranks (engine-core without --internal-engine-rank).
//
//   engine-core --headless ...        node agent
//     ├ engine-core ... --internal-engine-rank 0 ─ worker, worker
//     └ engine-core ... --internal-engine-rank 1 ─ worker, worker
//
// It starts one process per rank of local_ranks(options) with its own command line plus the rank,
// and starts those that die again (back-off 100 ms to 30 s). What it saw it tells the coordinator,
// which gives the place free at once and shows the reason. Before all ranks were ready once, a rank
// that dies of what a person must mend, or kStartTriesMax times in a row, ends the agent with that
// rank's last word; afterwards it tries for ever. A coordinator that cannot be reached is waited
// for, in any start order.
//
// A rank whose main loop makes no turn for --distributed-timeout-seconds is killed, with the reason
// in the log, and started again; so is one that is stopped while it starts. (A step that takes long
// is another matter: the loop turns while it waits, and names the worker; worker_watch.h.)
//
// Stop: SIGTERM goes to all ranks, which finish what they have; those that live --shutdown-timeout
// plus kStopGrace later, or at a second signal, are killed. Returns OK after a stop.
// Threads: call it on the main thread, after StopSignal::install(); everything runs there.
#pragma once

#include <span>

#include "common/clock.h"
#include "common/options/serve_options.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::engine {

inline constexpr uint32_t kStartTriesMax = 3;
inline constexpr Duration kStopGrace = std::chrono::seconds(5);

// `arguments`: the command line without the program's name.
[[nodiscard]] Status run_node_agent(const ServeOptions& options,
                                    std::span<const char* const> arguments, StopSignal& stop,
                                    const process::Pulse& pulse = {});

}  // namespace trireme::engine
