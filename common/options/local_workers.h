// The workers of a node: numbered engine by engine, and by rank within an engine. A worker's number
// says which cores are its own (worker/cpu_binding.h), and which GPU. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "common/options/serve_options.h"

namespace trireme {

// Else ranks compute themselves, on the CPU, or nothing.
[[nodiscard]] constexpr bool has_worker_processes(Executor executor) {
  return executor != Executor::kUni && executor != Executor::kSim;
}

struct LocalWorkers {
  uint32_t index = 0;
  uint32_t count = 1;
};

// `rank` is tp_rank + tp_size * pp_rank in the engine that `options` belong to.
[[nodiscard]] LocalWorkers local_workers(const ServeOptions& options, uint32_t rank);

// Of each worker of the node, by its number: the tensor-parallel group that it is in. Where a
// launcher started the ranks, who is with whom is not known: each is in a group of its own.
[[nodiscard]] std::vector<uint32_t> local_groups(const ServeOptions& options);

}  // namespace trireme
