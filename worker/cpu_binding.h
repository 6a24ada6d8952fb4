// Which cores a worker computes on (--cpu-threads-bind).
//
//   auto      the node's cores divided among its workers, all of them used, neighbours on one NUMA
//             node; with more workers than cores, one core each, shared. Where a cgroup grants less
//             CPU time than there are cores, so many threads as it grants, unbound: which cores
//             other containers use cannot be known
//   nobind    all cores of the process, no thread bound
//   0-3|4-7   one list per worker of the node, no more and no fewer; workers may share a core
// Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/options/local_workers.h"
#include "common/status.h"
#include "worker/machine_cores.h"

namespace trireme::worker {

struct WorkerCores {
  std::vector<int> cpus;  // Empty: unbound.
  uint32_t thread_count = 1;
};

// kInvalidArgument names the flag and what is wrong with its value.
[[nodiscard]] StatusOr<WorkerCores> cores_of_worker(const std::string& bind,
                                                    const MachineCores& machine,
                                                    const LocalWorkers& workers);

// "0-3,8": as a person reads it in the log.
[[nodiscard]] std::string cpu_list_text(std::span<const int> cpus);

}  // namespace trireme::worker
