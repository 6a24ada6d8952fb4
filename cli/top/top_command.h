// trireme top: what the cluster is at, and who holds it up. --help says the rest.
#pragma once

#include <span>

namespace trireme::top {

// Returns the process' exit code: 0 all is well, 1 it is not (with --once), 2 wrong command line,
// 3 the server could not be asked.
int run_top(std::span<char* const> arguments);

}  // namespace trireme::top
