// WeightImages: the memory in which the workers of a node share their weights, held by who starts
// the node's ranks, so that it outlives each of them.
//
// One image for each place in the model (tensor- and pipeline-parallel rank) and NUMA node: all
// data-parallel ranks need the same bytes, and a worker whose cores and memory are on another node
// would read them across the machine. It is empty until a worker fills it. Threads: one owner.
#pragma once

#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/process/child_process.h"
#include "common/unique_fd.h"
#include "worker/machine_cores.h"

namespace trireme::engine {

class WeightImages {
 public:
  // For the ranks of `options` on this node. None, and a line in the log, where the system gives
  // shared memory no huge pages; none where the ranks have no worker processes.
  [[nodiscard]] static WeightImages create(const ServeOptions& options,
                                           const worker::MachineCores& machine);

  // Hands those of the workers of the index-th rank here to the process that starts them.
  void hand_to(process::ChildOptions& child, uint32_t index) const;

  // The image of each worker, by rank and then by worker. Pure: for create().
  [[nodiscard]] static std::vector<uint32_t> plan(const ServeOptions& options,
                                                  const worker::MachineCores& machine);

 private:
  std::vector<UniqueFd> images_;
  std::vector<int> fd_of_worker_;  // By rank and then by worker; empty: there are none.
  uint32_t workers_per_rank_ = 1;
};

}  // namespace trireme::engine
