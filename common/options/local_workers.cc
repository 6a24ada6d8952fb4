#include "common/options/local_workers.h"

#include <algorithm>

namespace trireme {
namespace {

uint32_t workers_per_node(const ParallelOptions& parallel) {
  const uint32_t per_engine = parallel.tensor_parallel_size * parallel.pipeline_parallel_size;
  return std::max(1U, per_engine / std::max(1U, parallel.node_count));
}

}  // namespace

LocalWorkers local_workers(const ServeOptions& options, uint32_t rank) {
  const InternalOptions& told = options.internal;
  if (told.node_worker_count > 0) {
    return {.index = told.node_worker_index, .count = told.node_worker_count};
  }
  const ParallelOptions& parallel = options.parallel;
  const uint32_t per_node = workers_per_node(parallel);
  // A rank of its own (external balancing) is the only engine that this command line knows of.
  const uint32_t whole = parallel.data_parallel_rank ? 1 : parallel.data_parallel_size;
  const uint32_t engines = std::max(1U, parallel.data_parallel_size_local.value_or(whole));
  const uint32_t first = parallel.data_parallel_start_rank.value_or(0);
  const uint32_t engine_rank = options.internal.engine_rank;
  const uint32_t engine = engine_rank >= first ? (engine_rank - first) % engines : 0;
  return {.index = engine * per_node + rank % per_node, .count = engines * per_node};
}

std::vector<uint32_t> local_groups(const ServeOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  const uint32_t per_node = workers_per_node(parallel);
  const bool is_launched = options.internal.node_worker_count > 0;
  std::vector<uint32_t> groups(local_workers(options, 0).count);
  for (uint32_t index = 0; index < groups.size(); ++index) {
    const uint32_t engine = index / per_node;
    const uint32_t rank = parallel.node_rank * per_node + index % per_node;
    const uint32_t stage = rank / std::max(1U, parallel.tensor_parallel_size);
    groups[index] = is_launched ? index : engine * parallel.pipeline_parallel_size + stage;
  }
  return groups;
}

}  // namespace trireme
