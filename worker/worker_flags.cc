#include "worker/worker_flags.h"

#include <charconv>
#include <optional>
#include <string_view>

namespace trireme::worker {
namespace {

constexpr std::string_view kFds = "--internal-worker-fds";
constexpr std::string_view kRank = "--internal-worker-rank";

struct FdName {
  std::string_view name;
  int WorkerFlags::*field;
};
constexpr FdName kFdNames[] = {{"steps", &WorkerFlags::steps_fd},
                               {"results", &WorkerFlags::results_fd},
                               {"collective", &WorkerFlags::collective_fd},
                               {"pipe_in", &WorkerFlags::pipe_in_fd},
                               {"pipe_out", &WorkerFlags::pipe_out_fd}};

std::optional<uint32_t> number_of(std::string_view text) {
  constexpr uint32_t kNumberMax = 1U << 20;
  uint32_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = code == std::errc() && end == text.data() + text.size();
  return is_whole && value <= kNumberMax ? std::optional(value) : std::nullopt;
}

Status bad(std::string_view flag, std::string_view value) {
  return error(StatusCode::kInvalidArgument, "%s: \"%s\" is not a value of it", flag, value);
}

Status read_fds(std::string_view list, WorkerFlags& flags) {
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) return bad(kFds, item);
    const std::optional<uint32_t> fd = number_of(item.substr(equals + 1));
    const FdName* known = nullptr;
    for (const FdName& name : kFdNames) {
      if (name.name == item.substr(0, equals)) known = &name;
    }
    if (known == nullptr || !fd) return bad(kFds, item);
    flags.*(known->field) = static_cast<int>(*fd);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> worker_arguments(const WorkerFlags& flags) {
  std::string fds;
  for (const FdName& name : kFdNames) {
    const int fd = flags.*(name.field);
    if (fd < 0) continue;
    absl::StrAppendFormat(&fds, "%s%s=%d", fds.empty() ? "" : ",", name.name, fd);
  }
  return {std::string(kFds), fds, std::string(kRank), std::to_string(flags.rank)};
}

StatusOr<WorkerCommandLine> parse_worker_arguments(std::span<const char* const> arguments) {
  WorkerCommandLine line;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view flag = arguments[i];
    if (flag != kFds && flag != kRank) {
      line.serve_arguments.push_back(arguments[i]);
      continue;
    }
    if (++i == arguments.size()) return bad(flag, "");
    if (flag == kFds) {
      TRIREME_RETURN_IF_ERROR(read_fds(arguments[i], line.flags));
      continue;
    }
    const std::optional<uint32_t> rank = number_of(arguments[i]);
    if (!rank) return bad(flag, arguments[i]);
    line.flags.rank = *rank;
  }
  return line;
}

}  // namespace trireme::worker
