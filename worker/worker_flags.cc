#include "worker/worker_flags.h"

#include <charconv>
#include <optional>
#include <string_view>

namespace trireme::worker {
namespace {

constexpr std::string_view kFds = "--internal-worker-fds";
constexpr std::string_view kRank = "--internal-worker-rank";
constexpr std::string_view kGroup = "--internal-worker-group";
constexpr std::string_view kEngine = "--internal-worker-engine";
constexpr std::string_view kPeer = "--internal-worker-peer";

struct FdName {
  std::string_view name;
  int WorkerFlags::*field;
};
constexpr FdName kFdNames[] = {
    {"steps", &WorkerFlags::steps_fd},           {"results", &WorkerFlags::results_fd},
    {"collective", &WorkerFlags::collective_fd}, {"pipe_in", &WorkerFlags::pipe_in_fd},
    {"pipe_out", &WorkerFlags::pipe_out_fd},     {"life", &WorkerFlags::life_fd},
    {"weights", &WorkerFlags::weights_fd},       {"mesh", &WorkerFlags::mesh_fd}};

template <typename Number>
std::optional<Number> whole_number(std::string_view text) {
  Number value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = code == std::errc() && end == text.data() + text.size();
  return is_whole ? std::optional(value) : std::nullopt;
}

std::optional<uint32_t> number_of(std::string_view text) {
  constexpr uint32_t kNumberMax = 1U << 20;
  const auto value = whole_number<uint32_t>(text);
  return value && *value <= kNumberMax ? value : std::nullopt;
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

std::string_view take_part(std::string_view& text, char end) {
  const std::string_view part = text.substr(0, text.find(end));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

Status read_peer(std::string_view text, WorkerFlags& flags) {
  std::string_view left = text;
  const std::string_view direction = take_part(left, ':');
  const auto rank = number_of(take_part(left, ':'));
  const auto fd = whole_number<int>(take_part(left, ':'));
  if ((direction != "in" && direction != "out") || !rank || !fd) return bad(kPeer, text);
  flags.peers.push_back(
      {.is_in = direction == "in", .rank = *rank, .fd = *fd, .endpoint = std::string(left)});
  return absl::OkStatus();
}

Status read_engine(std::string_view text, WorkerFlags& flags) {
  std::string_view left = text;
  const auto index = number_of(take_part(left, ','));
  flags.steps_endpoint = take_part(left, ',');
  flags.results_endpoint = left;
  if (!index || flags.steps_endpoint.empty() || left.empty()) return bad(kEngine, text);
  flags.remote_index = *index;
  return absl::OkStatus();
}

Status read_flag(std::string_view flag, std::string_view value, WorkerFlags& flags) {
  if (flag == kFds) return read_fds(value, flags);
  if (flag == kPeer) return read_peer(value, flags);
  if (flag == kEngine) return read_engine(value, flags);
  if (flag == kGroup) {
    const auto group = whole_number<uint64_t>(value);
    if (!group) return bad(flag, value);
    flags.group = *group;
    return absl::OkStatus();
  }
  const std::optional<uint32_t> rank = number_of(value);
  if (!rank) return bad(flag, value);
  flags.rank = *rank;
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
  std::vector<std::string> arguments = {std::string(kRank), std::to_string(flags.rank)};
  const auto add = [&](std::string_view flag, std::string value) {
    arguments.insert(arguments.end(), {std::string(flag), std::move(value)});
  };
  if (!fds.empty()) add(kFds, fds);
  if (flags.group != 0) add(kGroup, std::to_string(flags.group));
  if (!flags.steps_endpoint.empty()) {
    add(kEngine, absl::StrFormat("%u,%s,%s", flags.remote_index, flags.steps_endpoint,
                                 flags.results_endpoint));
  }
  for (const PeerFlags& peer : flags.peers) {
    add(kPeer, absl::StrFormat("%s:%u:%d:%s", peer.is_in ? "in" : "out", peer.rank, peer.fd,
                               peer.endpoint));
  }
  return arguments;
}

StatusOr<WorkerCommandLine> parse_worker_arguments(std::span<const char* const> arguments) {
  WorkerCommandLine line;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view flag = arguments[i];
    const bool is_ours =
        flag == kFds || flag == kRank || flag == kGroup || flag == kEngine || flag == kPeer;
    if (!is_ours) {
      line.serve_arguments.push_back(arguments[i]);
      continue;
    }
    if (++i == arguments.size()) return bad(flag, "");
    TRIREME_RETURN_IF_ERROR(read_flag(flag, arguments[i], line.flags));
  }
  return line;
}

}  // namespace trireme::worker
