#include "worker/machine_cores.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

namespace trireme::worker {
namespace {

constexpr int kCpuMax = CPU_SETSIZE;
constexpr int kNodeMax = 1024;

std::string_view next_part(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

std::optional<int> number_below(std::string_view text, int end) {
  int number = 0;
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_whole = code == std::errc() && stop == text.data() + text.size();
  return is_whole && number >= 0 && number < end ? std::optional(number) : std::nullopt;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> number_of(std::string_view text) {
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  return code == std::errc() && number > 0 ? std::optional(number) : std::nullopt;
}

// Of one cgroup directory; nothing where it sets no limit ("max", -1).
std::optional<double> cores_in(const std::string& directory, bool is_v2) {
  std::string quota;
  std::string period;
  if (is_v2) {
    std::istringstream(first_line(directory + "/cpu.max")) >> quota >> period;
  } else {
    quota = first_line(directory + "/cpu.cfs_quota_us");
    period = first_line(directory + "/cpu.cfs_period_us");
  }
  const std::optional<double> time = number_of(quota);
  const std::optional<double> of = number_of(period);
  return time && of ? std::optional(*time / *of) : std::nullopt;
}

// The tightest of the group and all groups above it.
double cgroup_cores(const std::string& root) {
  double cores = std::numeric_limits<double>::infinity();
  std::ifstream lines(root + "/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    std::string_view left = line;
    const bool is_v2 = next_part(left, ':') == "0";
    const std::string controllers = "," + std::string(next_part(left, ':')) + ",";
    if (!is_v2 && controllers.find(",cpu,") == std::string::npos) continue;
    std::string group(left);
    while (true) {
      if (group == "/") group.clear();
      const std::string mount = root + (is_v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
      cores = std::min(cores, cores_in(mount + group, is_v2).value_or(cores));
      if (group.empty() || group.front() != '/') break;
      group.resize(group.find_last_of('/'));
    }
  }
  return cores;
}

// The node of each core; 0 of one that no node names.
std::vector<int> read_nodes(const std::string& root) {
  std::vector<int> nodes(kCpuMax, 0);
  const std::string folder = root + "/sys/devices/system/node";
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("node")) continue;
    const std::optional<int> node = number_below(std::string_view(name).substr(4), kNodeMax);
    if (!node) continue;
    const auto cpus = parse_cpu_list(first_line(entry.path().string() + "/cpulist"));
    for (const int cpu : cpus.value_or(std::vector<int>{})) {
      nodes[static_cast<std::size_t>(cpu)] = *node;
    }
  }
  return nodes;
}

}  // namespace

std::vector<int> MachineCores::nodes_of(std::span<const int> cpus) const {
  std::vector<int> out;
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    const bool is_meant = cpus.empty() || std::ranges::find(cpus, allowed[i]) != cpus.end();
    if (is_meant && std::ranges::find(out, nodes[i]) == out.end()) out.push_back(nodes[i]);
  }
  return out;
}

MachineCores read_machine_cores(const std::string& root, std::span<const int> allowed) {
  const std::vector<int> nodes = read_nodes(root);
  const auto node_of = [&](int cpu) { return nodes[static_cast<std::size_t>(cpu)]; };
  MachineCores machine;
  machine.allowed.assign(allowed.begin(), allowed.end());
  std::ranges::stable_sort(machine.allowed, {}, node_of);
  for (const int cpu : machine.allowed) machine.nodes.push_back(node_of(cpu));
  const double cores = std::ceil(cgroup_cores(root));
  if (cores < static_cast<double>(allowed.size())) machine.quota = static_cast<uint32_t>(cores);
  return machine;
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < kCpuMax; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

std::optional<std::vector<int>> parse_cpu_list(std::string_view list) {
  std::vector<int> cpus;
  if (list.ends_with(',')) return std::nullopt;
  while (!list.empty()) {
    std::string_view range = next_part(list, ',');
    const bool is_range = range.find('-') != std::string_view::npos;
    const std::optional<int> first = number_below(next_part(range, '-'), kCpuMax);
    const std::optional<int> last = is_range ? number_below(range, kCpuMax) : first;
    if (!first || !last || *last < *first) return std::nullopt;
    for (int cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  }
  return cpus.empty() ? std::nullopt : std::optional(cpus);
}

bool keep_memory_on(std::span<const int> nodes) {
  constexpr std::size_t kBits = 8 * sizeof(unsigned long);
  unsigned long mask[kNodeMax / kBits] = {};
  for (const int node : nodes) {
    if (node < 0 || node >= kNodeMax) return false;
    mask[static_cast<std::size_t>(node) / kBits] |= 1UL << (static_cast<std::size_t>(node) % kBits);
  }
  const int mode = nodes.empty()       ? MPOL_DEFAULT
                   : nodes.size() == 1 ? MPOL_PREFERRED
                                       : MPOL_INTERLEAVE;
  return syscall(SYS_set_mempolicy, mode, nodes.empty() ? nullptr : mask, kNodeMax) == 0;
}

}  // namespace trireme::worker
