// The cores of this machine that the process may use: what sched_getaffinity() allows, how much CPU
// time its cgroup (version 1 or 2) grants, and the NUMA node of each.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::worker {

struct MachineCores {
  // Node by node, so that neighbours share one; within a node in order.
  std::vector<int> allowed;
  std::vector<int> nodes;  // Of each; 0 where the machine does not say.
  uint32_t quota = 0;      // Cores' worth of CPU time, rounded up; 0: no limit below `allowed`.

  // The nodes of some of the allowed, each once; of all of them when cpus is empty.
  [[nodiscard]] std::vector<int> nodes_of(std::span<const int> cpus) const;
};

// `root` is put before /proc and /sys; "" but in tests.
[[nodiscard]] MachineCores read_machine_cores(const std::string& root,
                                              std::span<const int> allowed);

// The cores that this process may use, in order.
[[nodiscard]] std::vector<int> allowed_cpus();

// "0-3,8" as the kernel and --cpu-threads-bind write it; nothing when it is not a list.
[[nodiscard]] std::optional<std::vector<int>> parse_cpu_list(std::string_view list);

// Pages that this thread, and threads that it starts, touch first come from the nodes: from one
// alone while it has memory, from several in turn. False: the kernel refused, they come from where
// the touching thread runs. With one node in the machine there is nothing to do.
bool keep_memory_on(std::span<const int> nodes);

}  // namespace trireme::worker
