// Which cores a worker computes on (--cpu-threads-bind).
//
//   auto      the node's cores divided among its workers, all of them used; with more workers than
//             cores, one core each, shared
//   nobind    all cores of the process, no thread bound
//   0-3|4-7   one list per worker of the node
// The workers of a node are numbered engine by engine, and by rank within an engine.
// Pure but for allowed_cpus().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::worker {

struct LocalWorkers {
  uint32_t index = 0;
  uint32_t count = 1;
};

// `rank` is tp_rank + tp_size * pp_rank in the engine that `options` belong to.
[[nodiscard]] LocalWorkers local_workers(const ServeOptions& options, uint32_t rank);

// Empty: unbound. kInvalidArgument names the flag and what is wrong with its value.
[[nodiscard]] StatusOr<std::vector<int>> cpus_of_worker(const std::string& bind,
                                                        std::span<const int> allowed,
                                                        const LocalWorkers& workers);

// The cores that this process may use, in order.
[[nodiscard]] std::vector<int> allowed_cpus();

}  // namespace trireme::worker
