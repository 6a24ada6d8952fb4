// trireme simulate: the lockstep protocol under faults, seed by seed, or what it costs many ranks.
// --help says the rest.
#pragma once

#include <span>

namespace trireme::sim {

// Returns the process' exit code: 1 when a seed failed.
int run_simulate(std::span<char* const> arguments);

}  // namespace trireme::sim
