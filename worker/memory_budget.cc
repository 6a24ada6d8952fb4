#include "worker/memory_budget.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace trireme::worker {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

// The number after `key` and blanks, `key` beginning a line.
std::optional<uint64_t> number_after(std::string_view text, std::string_view key) {
  std::size_t at = 0;
  if (!text.starts_with(key)) {
    at = text.find("\n" + std::string(key));
    if (at == std::string_view::npos) return std::nullopt;
    ++at;
  }
  at = text.find_first_not_of(" \t", at + key.size());
  if (at == std::string_view::npos) return std::nullopt;
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  return code == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<uint64_t> number_in(const std::string& path) {
  return number_after(read_all(path), "");
}

// What one cgroup directory leaves; nothing where it sets no limit ("max").
std::optional<uint64_t> left_in(const std::string& directory, const char* limit_file,
                                const char* usage_file) {
  const std::optional<uint64_t> limit = number_in(directory + limit_file);
  const std::optional<uint64_t> usage = number_in(directory + usage_file);
  if (!limit || !usage) return std::nullopt;
  // File pages that nobody uses count as usage but are given back on demand.
  const uint64_t idle =
      number_after(read_all(directory + "/memory.stat"), "inactive_file ").value_or(0);
  const uint64_t held = *usage - std::min(*usage, idle);
  return *limit - std::min(*limit, held);
}

// The tightest of the group and all groups above it, in both cgroup versions.
uint64_t left_in_cgroup(const std::string& root) {
  uint64_t left = std::numeric_limits<uint64_t>::max();
  std::istringstream lines(read_all(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    constexpr std::string_view kVersion1 = ":memory:";
    const bool is_v2 = line.starts_with("0::");
    const std::size_t v1 = line.find(kVersion1);
    if (!is_v2 && v1 == std::string::npos) continue;
    const std::string mount = root + (is_v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    std::string group = is_v2 ? line.substr(3) : line.substr(v1 + kVersion1.size());
    while (true) {
      if (group == "/") group.clear();
      const std::string directory = mount + group;
      const auto here =
          is_v2 ? left_in(directory, "/memory.max", "/memory.current")
                : left_in(directory, "/memory.limit_in_bytes", "/memory.usage_in_bytes");
      if (here) left = std::min(left, *here);
      if (group.empty() || group.front() != '/') break;
      group.resize(group.find_last_of('/'));
    }
  }
  return left;
}

}  // namespace

uint64_t available_in_meminfo(std::string_view meminfo) {
  return number_after(meminfo, "MemAvailable:").value_or(0) * 1024;
}

uint64_t available_memory(const std::string& root) {
  const uint64_t machine = available_in_meminfo(read_all(root + "/proc/meminfo"));
  return std::min(machine, left_in_cgroup(root));
}

uint32_t weight_copies(uint32_t local_workers, uint32_t sharers) {
  const uint32_t each = std::max(1U, sharers);
  return std::max(1U, (local_workers + each - 1) / each);
}

Status check_weights_fit(const WeightBudget& weights, uint64_t available, const char* memory) {
  const uint64_t wanted = weights.bytes * weights.copies;
  if (weights.are_there || wanted <= available) return absl::OkStatus();
  const std::string shared =
      weights.sharers > 1 ? absl::StrFormat("shared by %u ranks", weights.sharers) : "";
  std::string whose = "this worker's weights" + (shared.empty() ? "" : " (" + shared + ")");
  if (weights.copies > 1) {
    whose = absl::StrFormat("the weights of this node's workers (%u parts or copies%s)",
                            weights.copies, shared.empty() ? "" : ", each " + shared);
  }
  return error(StatusCode::kResourceExhausted,
               "%s need %.2f GiB, %.2f GiB of %s are available: take a smaller model or a "
               "larger machine, or spread it with --tensor-parallel-size and --nnodes over several "
               "machines",
               whose, static_cast<double>(wanted) / kGib, static_cast<double>(available) / kGib,
               memory);
}

std::string sharing_text(const WeightBudget& weights) {
  const char* const maker = weights.are_there ? "found" : "made by this one";
  if (weights.sharers <= 1) return weights.are_there ? "found" : "own";
  return absl::StrFormat("shared by %u ranks, %s", weights.sharers, maker);
}

StatusOr<uint64_t> kv_budget(const SchedulerOptions& options, uint64_t available,
                             uint64_t scratch_bytes, uint32_t local_workers,
                             bool are_weights_found) {
  const uint32_t workers = are_weights_found ? 1 : std::max(1U, local_workers);
  if (options.kv_bytes > available / workers) {
    const std::string each =
        workers > 1 ? absl::StrFormat(" for each of this node's %u workers", workers) : "";
    return error(StatusCode::kResourceExhausted,
                 "--kv-cache-memory-bytes %u%s, but only %u bytes of memory are available",
                 options.kv_bytes, each, available);
  }
  if (options.kv_bytes > 0) return options.kv_bytes;
  const double share = options.memory_utilization.value_or(kDefaultKvShare);
  const uint64_t scratch = scratch_bytes * std::max(1U, local_workers);
  const uint64_t left = available - std::min(available, scratch);
  const auto all = static_cast<uint64_t>(static_cast<double>(left) * share);
  const uint64_t mine = all / std::max(1U, local_workers);
  return options.memory_utilization ? mine : std::min(mine, kDefaultKvBytesMax);
}

StatusOr<uint64_t> device_kv_budget(const SchedulerOptions& options, uint64_t free_bytes,
                                    uint64_t scratch_bytes) {
  if (options.kv_bytes > free_bytes) {
    return error(StatusCode::kResourceExhausted,
                 "--kv-cache-memory-bytes %u, but only %u bytes of %s are free", options.kv_bytes,
                 free_bytes, kDeviceMemoryName);
  }
  if (options.kv_bytes > 0) return options.kv_bytes;
  if (scratch_bytes >= free_bytes) {
    return error(StatusCode::kResourceExhausted,
                 "a full step needs %.2f GiB beside the weights, %.2f GiB of %s are free: lower "
                 "--max-num-batched-tokens or --max-num-seqs, or take more GPUs",
                 static_cast<double>(scratch_bytes) / kGib, static_cast<double>(free_bytes) / kGib,
                 kDeviceMemoryName);
  }
  const double share = options.memory_utilization.value_or(kDefaultKvShare);
  return static_cast<uint64_t>(static_cast<double>(free_bytes - scratch_bytes) * share);
}

}  // namespace trireme::worker
