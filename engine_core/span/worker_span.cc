#include "engine_core/span/worker_span.h"

#include <algorithm>

#include "proto/member/cluster_shape.h"

namespace trireme::engine {

WorkerSpan worker_span(const ServeOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  WorkerSpan span{.tp_size = parallel.tensor_parallel_size,
                  .pp_size = parallel.pipeline_parallel_size};
  span.ranks_per_place = std::max(1U, span.world_size() / std::max(1U, parallel.node_count));
  return span;
}

std::vector<WorkerEdge> worker_edges(const WorkerSpan& span) {
  std::vector<WorkerEdge> edges;
  for (uint32_t stage = 0; stage < span.pp_size; ++stage) {
    const uint32_t first = stage * span.tp_size;
    for (uint32_t from = first; from < first + span.tp_size; ++from) {
      for (uint32_t to = first; to < first + span.tp_size && !span.is_stage_together(stage); ++to) {
        if (from != to) edges.push_back({from, to});
      }
      if (stage + 1 < span.pp_size) edges.push_back({from, from + span.tp_size, true});
    }
  }
  return edges;
}

StatusOr<std::string> rendezvous_endpoint(const ServeOptions& options) {
  const uint32_t port = options.parallel.master_port + options.internal.engine_rank;
  if (port > UINT16_MAX) {
    return error(StatusCode::kInvalidArgument,
                 "--master-port %u plus data-parallel rank %u is no port",
                 options.parallel.master_port, options.internal.engine_rank);
  }
  return member::tcp_endpoint(options.parallel.master_address, static_cast<uint16_t>(port));
}

}  // namespace trireme::engine
