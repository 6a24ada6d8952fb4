// Which of an engine's workers are where, and which of them need a pipe. Pure.
//
// World rank = tp_rank + tp_size * pp_rank. Places (nodes; or single processes, where a launcher
// started every rank by itself) hold equal, contiguous parts of them; place 0 has the engine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::engine {

struct WorkerSpan {
  uint32_t tp_size = 1;
  uint32_t pp_size = 1;
  uint32_t ranks_per_place = 1;

  [[nodiscard]] uint32_t world_size() const { return tp_size * pp_size; }
  [[nodiscard]] uint32_t place_count() const { return world_size() / ranks_per_place; }
  [[nodiscard]] uint32_t place_of(uint32_t rank) const { return rank / ranks_per_place; }
  [[nodiscard]] uint32_t first_rank(uint32_t place) const { return place * ranks_per_place; }
  // Are the tensor-parallel ranks of this stage all at one place?
  [[nodiscard]] bool is_stage_together(uint32_t stage) const {
    return place_of(stage * tp_size) == place_of((stage + 1) * tp_size - 1);
  }
};

// By --tensor-parallel-size, --pipeline-parallel-size and --nnodes, which validate() has joined.
[[nodiscard]] WorkerSpan worker_span(const ServeOptions& options);

// What one worker sends to another: hidden rows to the next stage, or its part of a sum to a rank
// of its own stage, where that stage is not at one place.
struct WorkerEdge {
  uint32_t from = 0;
  uint32_t to = 0;
  bool is_next_stage = false;
  friend bool operator==(const WorkerEdge&, const WorkerEdge&) = default;
};
[[nodiscard]] std::vector<WorkerEdge> worker_edges(const WorkerSpan& span);
[[nodiscard]] inline bool is_remote(const WorkerSpan& span, const WorkerEdge& edge) {
  return span.place_of(edge.from) != span.place_of(edge.to);
}

// Where the engine of this data-parallel rank waits for the others: --master-port plus the rank,
// for each rank's engine is a process that lives and dies by itself.
[[nodiscard]] StatusOr<std::string> rendezvous_endpoint(const ServeOptions& options);

}  // namespace trireme::engine
