// Which instructions the workers of this node compute with. Bits depend on them, and what
// `--cpu-kernels auto` becomes on them depends on the CPU: so engines compare the set itself.
// Threads: any.
#pragma once

#include <vector>

#include "common/options/serve_options.h"
#include "proto/membership.h"

namespace trireme::engine {

// As "cpu-kernels". Nothing without workers (sim), or with a set that this CPU does not run, which
// is for the workers to tell.
void append_kernel_set(const ServeOptions& options, std::vector<wire::ConfigEntry>& config);

}  // namespace trireme::engine
