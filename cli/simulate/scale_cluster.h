// ScaleCluster: what a start, an agreement and a loss cost a lockstep group of many ranks, in one
// thread and virtual time.
//
// The product's own state machines run in it: CoordinatorState, for each rank MemberState and
// Lockstep, for each node RecordTable and StepTree. Messages are packed, and the coordinator
// unpacks them. Only the links are simulated: each takes its time whatever goes over it, and loses
// nothing; bandwidth, sockets and workers cost nothing. So the times are those of the protocol's
// rounds, the bytes are what a network must carry, and the CPU time is this machine's for the
// coordinator's part.
//
// The same options give the same report but for the CPU time. Threads: one.
#pragma once

#include <cstdint>

namespace trireme::sim {

struct ScaleOptions {
  uint32_t rank_count = 4;  // At least 2.
  uint32_t ranks_per_node = 8;
  uint32_t network_us = 100;  // One way: between two nodes, and to the coordinator.
  uint32_t node_us = 1;       // One way: between two ranks of a node.
};

// From an event on until all that follows from it is done.
struct CoordinatorWork {
  uint64_t messages_in = 0;
  uint64_t messages_out = 0;
  uint64_t bytes_out = 0;
  double cpu_us = 0;  // Without the sockets.
};

struct ScaleReport {
  uint32_t node_count = 0;
  uint32_t depth = 0;       // Hops from the farthest node to the root of the tree.
  uint64_t view_bytes = 0;  // The whole view.
  uint64_t start_bytes = 0;

  // All sleep, and a rank gets work: until the last is in the wave.
  uint64_t start_us = 0;
  CoordinatorWork start;

  // A step: from the last rank's record to the last rank that knows what all have said; the slowest
  // one. Messages: between nodes.
  uint64_t agreement_us = 0;
  uint64_t agreement_messages = 0;

  // A rank dies in a step, and its node agent says so: until the last member has the view without
  // it, and until the last rank runs a step of the wave without it.
  uint64_t view_us = 0;
  uint64_t step_again_us = 0;
  CoordinatorWork loss;
};

[[nodiscard]] ScaleReport simulate_scale(const ScaleOptions& options);

}  // namespace trireme::sim
