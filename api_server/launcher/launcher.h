// Launcher: the outermost process of the front node (api-server without
// --internal-api-server-index). It holds no request; it binds, starts, watches and stops.
//
//   launcher            HTTP socket (inherited by every api-server), the coordinator's socket
//     ├ coordinator     unless another node has it (hybrid, external balancing)
//     ├ api-server 0 .. N-1
//     └ engine-core     node agent of local_ranks(options); none with --data-parallel-size-local 0
//
// A restarted api-server finds the connections that wait on the shared socket; a restarted
// coordinator is found at the same port, and told everything again by its members; a restarted node
// agent starts its ranks. Each step is a line on standard output; when all served ranks and all
// api-servers are ready, the address, a curl line and the process tree follow.
//
// Until then a child that dies of what a person must mend (process/last_word.h), or kStartTriesMax
// times in a row (the node agent, which has tried itself: once), ends the launcher with that
// child's last word as the one message; afterwards all are restarted for
// ever, with back-off.
// Stop: SIGTERM goes to the api-servers first (they finish what runs), then to the engines, then to
// the coordinator, each stage with its deadline; a second signal gives the api-servers kForceGrace
// to answer what is open with an error, and kills the rest. Returns OK after a stop.
// Threads: call it on the main thread, after StopSignal::install(); everything runs there.
#pragma once

#include <span>

#include "common/clock.h"
#include "common/options/serve_options.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::api {

inline constexpr uint32_t kStartTriesMax = 3;
inline constexpr Duration kStopGrace = std::chrono::seconds(5);
inline constexpr Duration kForceGrace = std::chrono::seconds(1);

// `arguments`: the command line without the program's name; the children get the same.
[[nodiscard]] Status run_launcher(const ServeOptions& options,
                                  std::span<const char* const> arguments, StopSignal& stop);

}  // namespace trireme::api
