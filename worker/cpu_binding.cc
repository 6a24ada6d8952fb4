#include "worker/cpu_binding.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace trireme::worker {
namespace {

constexpr int kCpuMax = CPU_SETSIZE;

std::string_view next_part(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

std::optional<int> cpu_of(std::string_view text) {
  int cpu = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  const bool is_whole = code == std::errc() && end == text.data() + text.size();
  return is_whole && cpu >= 0 && cpu < kCpuMax ? std::optional(cpu) : std::nullopt;
}

// "0-3,8": nothing when it is not a list.
std::optional<std::vector<int>> parse_list(std::string_view list) {
  std::vector<int> cpus;
  while (!list.empty()) {
    std::string_view range = next_part(list, ',');
    const bool is_range = range.find('-') != std::string_view::npos;
    const std::optional<int> first = cpu_of(next_part(range, '-'));
    const std::optional<int> last = is_range ? cpu_of(range) : first;
    if (!first || !last || *last < *first) return std::nullopt;
    for (int cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  }
  return cpus.empty() ? std::nullopt : std::optional(cpus);
}

std::vector<int> share(std::span<const int> allowed, const LocalWorkers& workers) {
  if (allowed.empty()) return {};
  if (workers.count > allowed.size()) return {allowed[workers.index % allowed.size()]};
  const std::size_t begin = allowed.size() * workers.index / workers.count;
  const std::size_t end = allowed.size() * (workers.index + 1) / workers.count;
  return {allowed.begin() + static_cast<std::ptrdiff_t>(begin),
          allowed.begin() + static_cast<std::ptrdiff_t>(end)};
}

}  // namespace

LocalWorkers local_workers(const ServeOptions& options, uint32_t rank) {
  const InternalOptions& told = options.internal;
  if (told.node_worker_count > 0) {
    return {.index = told.node_worker_index, .count = told.node_worker_count};
  }
  const ParallelOptions& parallel = options.parallel;
  const uint32_t per_engine = parallel.tensor_parallel_size * parallel.pipeline_parallel_size;
  const uint32_t per_node = std::max(1U, per_engine / std::max(1U, parallel.node_count));
  // A rank of its own (external balancing) is the only engine that this command line knows of.
  const uint32_t whole = parallel.data_parallel_rank ? 1 : parallel.data_parallel_size;
  const uint32_t engines = std::max(1U, parallel.data_parallel_size_local.value_or(whole));
  const uint32_t first = parallel.data_parallel_start_rank.value_or(0);
  const uint32_t engine_rank = options.internal.engine_rank;
  const uint32_t engine = engine_rank >= first ? (engine_rank - first) % engines : 0;
  return {.index = engine * per_node + rank % per_node, .count = engines * per_node};
}

StatusOr<std::vector<int>> cpus_of_worker(const std::string& bind, std::span<const int> allowed,
                                          const LocalWorkers& workers) {
  if (bind == "auto" || bind.empty()) return share(allowed, workers);
  if (bind == "nobind") return std::vector<int>{};
  std::string_view lists = bind;
  std::string_view mine;
  uint32_t count = 0;
  while (!lists.empty()) {
    const std::string_view list = next_part(lists, '|');
    if (count++ == workers.index) mine = list;
  }
  if (count <= workers.index) {
    return error(StatusCode::kInvalidArgument,
                 "--cpu-threads-bind %s has %u lists, this node has %u workers", bind, count,
                 workers.count);
  }
  std::optional<std::vector<int>> cpus = parse_list(mine);
  if (!cpus) {
    return error(StatusCode::kInvalidArgument,
                 "--cpu-threads-bind: \"%s\" is not a list of cores like 0-3,8", mine);
  }
  for (const int cpu : *cpus) {
    if (std::ranges::find(allowed, cpu) == allowed.end()) {
      return error(StatusCode::kInvalidArgument,
                   "--cpu-threads-bind: core %d is not one that this process may use", cpu);
    }
  }
  return *std::move(cpus);
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < kCpuMax; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace trireme::worker
