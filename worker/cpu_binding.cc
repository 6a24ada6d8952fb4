#include "worker/cpu_binding.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

namespace trireme::worker {
namespace {

std::string_view next_part(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

std::vector<int> share(std::span<const int> allowed, const LocalWorkers& workers) {
  if (allowed.empty()) return {};
  if (workers.count > allowed.size()) return {allowed[workers.index % allowed.size()]};
  const std::size_t begin = allowed.size() * workers.index / workers.count;
  const std::size_t end = allowed.size() * (workers.index + 1) / workers.count;
  return {allowed.begin() + static_cast<std::ptrdiff_t>(begin),
          allowed.begin() + static_cast<std::ptrdiff_t>(end)};
}

// One list of `bind`.
StatusOr<std::vector<int>> read_list(const std::string& bind, std::string_view list,
                                     std::span<const int> allowed) {
  std::optional<std::vector<int>> cpus = parse_cpu_list(list);
  if (!cpus) {
    return error(StatusCode::kInvalidArgument,
                 "--cpu-threads-bind %s: \"%s\" is not auto, nobind or a list of cores like 0-3,8",
                 bind, list);
  }
  for (auto cpu = cpus->begin(); cpu != cpus->end(); ++cpu) {
    if (std::ranges::find(allowed, *cpu) == allowed.end()) {
      return error(StatusCode::kInvalidArgument,
                   "--cpu-threads-bind %s: core %d is not one that this process may use: it has %s",
                   bind, *cpu, cpu_list_text(allowed));
    }
    if (std::find(cpus->begin(), cpu, *cpu) != cpu) {
      return error(StatusCode::kInvalidArgument,
                   "--cpu-threads-bind %s: core %d is twice in a list: a core has one thread", bind,
                   *cpu);
    }
  }
  return *std::move(cpus);
}

StatusOr<std::vector<int>> list_of_worker(const std::string& bind, std::span<const int> allowed,
                                          const LocalWorkers& workers) {
  const auto count = 1 + static_cast<uint32_t>(std::ranges::count(bind, '|'));
  if (count != workers.count) {
    return error(StatusCode::kInvalidArgument,
                 "--cpu-threads-bind %s has %u lists, this node has %u workers", bind, count,
                 workers.count);
  }
  std::string_view lists = bind;
  std::vector<int> mine;
  for (uint32_t index = 0; index < count; ++index) {
    TRIREME_ASSIGN_OR_RETURN(std::vector<int> cpus,
                             read_list(bind, next_part(lists, '|'), allowed));
    if (index == workers.index) mine = std::move(cpus);
  }
  return mine;
}

}  // namespace

StatusOr<WorkerCores> cores_of_worker(const std::string& bind, const MachineCores& machine,
                                      const LocalWorkers& workers) {
  const bool is_auto = bind == "auto" || bind.empty();
  const auto all = static_cast<uint32_t>(std::max<std::size_t>(machine.allowed.size(), 1));
  if (is_auto && machine.quota > 0) {
    const uint32_t begin = machine.quota * workers.index / workers.count;
    const uint32_t end = machine.quota * (workers.index + 1) / workers.count;
    return WorkerCores{.thread_count = std::max(end - begin, 1U)};
  }
  if (bind == "nobind") {
    return WorkerCores{.thread_count = machine.quota > 0 ? machine.quota : all};
  }
  WorkerCores cores;
  if (is_auto) {
    cores.cpus = share(machine.allowed, workers);
  } else {
    TRIREME_ASSIGN_OR_RETURN(cores.cpus, list_of_worker(bind, machine.allowed, workers));
  }
  cores.thread_count = std::max(static_cast<uint32_t>(cores.cpus.size()), 1U);
  return cores;
}

std::string cpu_list_text(std::span<const int> cpus) {
  std::vector<int> sorted(cpus.begin(), cpus.end());
  std::ranges::sort(sorted);
  std::string text;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i + 1;
    while (end < sorted.size() && sorted[end] == sorted[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += std::to_string(sorted[i]);
    if (end > i + 1) text += '-' + std::to_string(sorted[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace trireme::worker
