// A rank's process: executor, scheduler, main loop and I/O thread put together.
#pragma once

#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"

namespace trireme::engine {

// Runs rank options.internal.engine_rank until it is told to stop (OK) or has to (why).
// `command_line`: ours without the program's name; workers get the same.
[[nodiscard]] Status run_rank(const ServeOptions& options,
                              const std::vector<std::string>& command_line, StopSignal& stop,
                              const process::Pulse& pulse = {});

}  // namespace trireme::engine
