// The workers of an engine whose process is at another place: what `engine-core` does with
// --node-rank above 0 and --internal-engine-rank.
//
// Asks the engine at --master-addr for a seat until it has one, then starts its share of the
// workers. When the group is over (the engine, its node, a worker elsewhere or the link is gone)
// it kills them and asks again; when one of its own workers dies it tells the engine and ends, and
// its parent starts it again. A worker of its own that holds up a step is named and killed, as the
// engine does with those beside it (seat_watch.h). What it does it says on standard output.
#pragma once

#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::engine {

struct RemoteRanksOptions {
  // As a launcher's rank (launched.h): one group, and its end is ours; a first SIGTERM waits for
  // the engine, which got one too and drains, as long as --shutdown-timeout lets it.
  bool is_launched = false;
  process::Pulse pulse;  // Beats with each turn.
};

// OK after a stop. kFailedPrecondition: the engine has another configuration.
[[nodiscard]] Status run_remote_ranks(const ServeOptions& options,
                                      const std::vector<std::string>& command_line,
                                      StopSignal& stop, const RemoteRanksOptions& how = {});

}  // namespace trireme::engine
