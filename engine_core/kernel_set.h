// What the workers of this node compute with: the CPU and which instructions, or CUDA. Bits depend
// on it, and what `--device auto` and `--cpu-kernels auto` become depends on the node: so engines
// compare what they became.
// Threads: any.
#pragma once

#include <vector>

#include "common/options/serve_options.h"
#include "proto/membership.h"

namespace trireme::engine {

// As "device" and, of the CPU, "cpu-kernels". Nothing without workers (sim), no kernels where they
// are a set that this CPU does not run, which is for the workers to tell.
void append_kernel_set(const ServeOptions& options, std::vector<wire::ConfigEntry>& config);

}  // namespace trireme::engine
