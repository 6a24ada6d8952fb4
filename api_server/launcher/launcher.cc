#include "api_server/launcher/launcher.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api_server/counters/counter_board.h"
#include "api_server/engine_client/pause_register.h"
#include "api_server/launcher/control_port.h"
#include "api_server/launcher/listen_socket.h"
#include "api_server/launcher/process_tree.h"
#include "common/host_name.h"
#include "common/log.h"
#include "common/process/pulse_watch.h"
#include "common/process/sibling_binary.h"
#include "common/process/supervisor.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/poller.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"
#include "proto/member/view_text.h"

namespace trireme::api {
namespace {

constexpr uint64_t kLinkToken = 1;
constexpr uint64_t kChildrenToken = 2;
constexpr uint64_t kStopToken = 3;
constexpr Duration kWaitingInterval = std::chrono::seconds(10);

// In the order in which they are stopped.
enum class Kind : uint8_t { kApiServer, kNodeAgent, kCoordinator, kNone };

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

class Launcher {
 public:
  Launcher(const ServeOptions& options, ListenSocket http, std::optional<ListenSocket> control,
           process::Supervisor children, member::MemberLink link, zmq::Poller poller,
           StopSignal& stop)
      : options_(options),
        http_(std::move(http)),
        control_(std::move(control)),
        children_(std::move(children)),
        link_(std::move(link)),
        poller_(std::move(poller)),
        stop_(stop),
        waiting_at_(now() + kWaitingInterval) {}

  Status start(std::span<const char* const> arguments);
  Status run();

 private:
  Status start_api_servers(std::span<const char* const> arguments);
  Status add(Kind kind, const std::string& title, const char* program,
             std::span<const char* const> arguments, std::vector<std::string> more,
             std::vector<int> fds);
  [[nodiscard]] process::Supervisor::Limits limits_of(Kind kind) const;
  void wait();
  Status on_death(const process::Death& death);
  void report_ranks_of_dead_agent(const std::string& reason);
  Status on_event(const member::Event& event);
  void on_view(const wire::View& view);
  [[nodiscard]] bool is_ours(const wire::Member& member) const;
  [[nodiscard]] bool is_complete(const wire::View& view) const;
  void announce(const wire::View& view);
  void say_who_is_missing();
  void follow_stop();
  void force_stop();
  void stop_stage(Kind kind, int signal);
  [[nodiscard]] uint32_t pid_of(Kind kind) const;
  [[nodiscard]] bool is_over() const;
  [[nodiscard]] long milliseconds() const;

  const ServeOptions& options_;
  ListenSocket http_;
  std::optional<ListenSocket> control_;  // None: the coordinator is another node's.
  // These outlive the lives of the api-servers.
  std::optional<CounterBoard> counters_;
  std::optional<PauseRegister> pause_;
  process::Supervisor children_;
  member::MemberLink link_;
  zmq::Poller poller_;
  StopSignal& stop_;

  const Instant started_at_ = now();
  Instant waiting_at_;
  std::vector<Kind> kinds_;  // Of each child.
  wire::View view_;
  bool was_complete_ = false;

  StopSignal::Level level_ = StopSignal::Level::kRun;
  Kind stage_ = Kind::kNone;  // Which children are being stopped.
  Instant kill_at_ = Instant::max();
};

Status Launcher::start(std::span<const char* const> arguments) {
  say("http: listening on " + http_.address);
  if (control_) {
    const int fd = control_->fd.get();
    TRIREME_RETURN_IF_ERROR(add(Kind::kCoordinator, "coordinator", "coordinator", arguments,
                                {"--internal-listen-fd", std::to_string(fd)}, {fd}));
  }
  const member::RankRange local = member::local_ranks(options_);
  if (local.count > 0) {
    TRIREME_RETURN_IF_ERROR(add(Kind::kNodeAgent, "node agent", "engine-core", arguments, {}, {}));
    say(absl::StrFormat("node agent: starting ranks %u to %u", local.first,
                        local.first + local.count - 1));
  }
  TRIREME_RETURN_IF_ERROR(start_api_servers(arguments));
  link_.set_ready({});
  TRIREME_RETURN_IF_ERROR(poller_.add(link_.socket(), kLinkToken));
  TRIREME_RETURN_IF_ERROR(poller_.add_fd(children_.fd(), kChildrenToken));
  return poller_.add_fd(stop_.fd(), kStopToken);
}

Status Launcher::add(Kind kind, const std::string& title, const char* program,
                     std::span<const char* const> arguments, std::vector<std::string> more,
                     std::vector<int> fds) {
  TRIREME_ASSIGN_OR_RETURN(std::string path, process::find_sibling_binary(program));
  process::ChildOptions child{.argv = {std::move(path)}, .inherited_fds = std::move(fds)};
  child.argv.insert(child.argv.end(), arguments.begin(), arguments.end());
  child.argv.insert(child.argv.end(), more.begin(), more.end());
  children_.add(title, std::move(child), limits_of(kind));
  kinds_.push_back(kind);
  return absl::OkStatus();
}

// Where ranks step together only the coordinator lets the others go on without a lost one. It turns
// four times a lease, whatever it does, and nothing is lost with it; so it is started again soon,
// however often it dies.
process::Supervisor::Limits Launcher::limits_of(Kind kind) const {
  if (kind != Kind::kCoordinator) return {};
  const Duration lease = std::chrono::milliseconds(options_.cluster.lease_milliseconds);
  return {.silence_max = std::max(process::PulseWatch::kSilenceMin, lease),
          .backoff_max = std::chrono::seconds(1)};
}

Status Launcher::run() {
  while (true) {
    for (const process::Death& death : children_.tick(now())) {
      TRIREME_RETURN_IF_ERROR(on_death(death));
    }
    link_.do_work(now(), /*is_alive=*/true);
    while (auto event = link_.next_event()) TRIREME_RETURN_IF_ERROR(on_event(*event));
    say_who_is_missing();
    follow_stop();
    if (is_over()) break;
    wait();
  }
  say("stopped");
  return absl::OkStatus();
}

bool Launcher::is_over() const {
  return level_ != StopSignal::Level::kRun && children_.running_count() == 0;
}

void Launcher::wait() {
  const Instant waiting = was_complete_ ? Instant::max() : waiting_at_;
  (void)poller_.wait(Deadline(std::min({link_.wakeup(), children_.wakeup(), kill_at_, waiting})));
}

Status Launcher::on_death(const process::Death& death) {
  const std::string& title = children_.name(death.child);
  if (!death.restart_in) {
    say(absl::StrFormat("%s: stopped", title));
    return absl::OkStatus();
  }
  const bool goes_on = was_complete_ || level_ != StopSignal::Level::kRun;
  // A node agent that ends by itself has tried its ranks often enough, and says which and why.
  const bool is_agent = kinds_[death.child] == Kind::kNodeAgent;
  const bool has_tried = is_agent && death.pid > 0 && death.status.signal == 0;
  const bool is_enough =
      death.is_for_a_person || has_tried || death.deaths_in_a_row >= kStartTriesMax;
  if (!goes_on && is_enough) {
    if (has_tried) return error(StatusCode::kUnavailable, "%s", death.reason);
    return error(StatusCode::kUnavailable, "%s cannot start: %s", title, death.reason);
  }
  const auto wait_ms = std::chrono::duration_cast<std::chrono::milliseconds>(*death.restart_in);
  log::warning("child_died", {{"child", title},
                              {"child_pid", death.pid},
                              {"reason", death.reason},
                              {"restarts", death.restarts},
                              {"restart_in_ms", wait_ms.count()}});
  if (is_agent) report_ranks_of_dead_agent(death.reason);
  say(absl::StrFormat("%s: %s, restart in %d ms", title, death.reason, wait_ms.count()));
  return absl::OkStatus();
}

Status Launcher::start_api_servers(std::span<const char* const> arguments) {
  const uint32_t servers = std::max(1U, options_.server.api_server_count);
  const int http = http_.fd.get();
  TRIREME_ASSIGN_OR_RETURN(
      pause_, PauseRegister::create(static_cast<uint64_t>(unix_milliseconds()) * 1000));
  const int pause = pause_->fd();
  std::vector<std::string> flags = {"--internal-listen-fd", std::to_string(http),
                                    "--internal-pause-fd", std::to_string(pause)};
  std::vector<int> fds = {http, pause};
  if (servers > 1) {
    const std::size_t words = CounterBoard::words_for(options_.parallel.data_parallel_size);
    TRIREME_ASSIGN_OR_RETURN(counters_, CounterBoard::create(servers, words));
    fds.push_back(counters_->fd());
    flags.insert(flags.end(), {"--internal-counters-fd", std::to_string(counters_->fd())});
  }
  for (uint32_t i = 0; i < servers; ++i) {
    const uint32_t index = member::first_api_server_index(options_) + i;
    std::vector<std::string> more = {"--internal-api-server-index", std::to_string(index)};
    more.insert(more.end(), flags.begin(), flags.end());
    TRIREME_RETURN_IF_ERROR(add(Kind::kApiServer, absl::StrFormat("api-server %u", index),
                                "api-server", arguments, std::move(more), fds));
  }
  return absl::OkStatus();
}

// Its ranks died with it, and nobody else will say so before their leases end.
void Launcher::report_ranks_of_dead_agent(const std::string& reason) {
  const member::RankRange local = member::local_ranks(options_);
  for (uint32_t rank = local.first; rank < local.first + local.count; ++rank) {
    const auto* member = member::find_member(view_, wire::Role::kEngine, rank);
    if (member == nullptr || member->state == wire::MemberState::kLost) continue;
    if (!is_ours(*member)) continue;  // Another holds that number.
    link_.report_rank({.engine = EngineId{rank},
                       .incarnation = member->incarnation,
                       .reason = "node agent: " + reason,
                       .restarts = member->restarts + 1});
  }
}

Status Launcher::on_event(const member::Event& event) {
  if (const auto* accepted = std::get_if<member::Accepted>(&event)) {
    if (accepted->is_new_coordinator) {
      say(absl::StrFormat("coordinator: up at %s (%d ms)", member::control_endpoint(options_),
                          milliseconds()));
    }
  } else if (const auto* refused = std::get_if<member::Refused>(&event)) {
    if (refused->is_final) {
      return error(StatusCode::kFailedPrecondition, "the coordinator refused this node: %s",
                   refused->reason);
    }
    say("coordinator: refused for now: " + refused->reason);
  } else if (const auto* view = std::get_if<wire::View>(&event)) {
    on_view(*view);
  }
  return absl::OkStatus();
}

void Launcher::on_view(const wire::View& view) {
  wire::View told = view;
  if (!was_complete_) {  // Why a rank of this node cannot start is said once, when we give up.
    std::erase_if(told.members, [local = member::local_ranks(options_)](const wire::Member& m) {
      return m.role == wire::Role::kEngine && m.state == wire::MemberState::kLost &&
             local.contains(m.index);
    });
  }
  for (const std::string& line : member::changes_between(view_, told)) {
    say(absl::StrFormat("%s  %d ms", line, milliseconds()));
  }
  view_ = view;
  if (was_complete_ || !is_complete(view)) return;
  was_complete_ = true;
  announce(view);
}

bool Launcher::is_ours(const wire::Member& member) const {
  return member.launch.value == options_.internal.launch;
}

bool Launcher::is_complete(const wire::View& view) const {
  const auto is_ready = [&](wire::Role role, uint32_t index) {
    const wire::Member* const member = member::find_member(view, role, index);
    return member != nullptr && member->state == wire::MemberState::kReady;
  };
  const member::RankRange served = member::served_ranks(options_);
  const member::RankRange local = member::local_ranks(options_);
  for (uint32_t rank = served.first; rank < served.first + served.count; ++rank) {
    if (!is_ready(wire::Role::kEngine, rank)) return false;
    // Another launch may hold a rank that belongs here: then ours cannot start.
    const auto* member = member::find_member(view, wire::Role::kEngine, rank);
    if (local.contains(rank) && !is_ours(*member)) return false;
  }
  const uint32_t servers = std::max(1U, options_.server.api_server_count);
  for (uint32_t i = 0; i < servers; ++i) {
    const uint32_t index = member::first_api_server_index(options_) + i;
    if (!is_ready(wire::Role::kApiServer, index)) return false;
    const auto* member = member::find_member(view, wire::Role::kApiServer, index);
    if (member->ready.http_address.empty()) return false;  // It has not seen all engines yet.
  }
  return true;
}

void Launcher::announce(const wire::View& view) {
  const bool has_tls = !options_.server.ssl_certfile.empty();
  const auto& names = options_.model.served_model_names;
  const TreeFacts facts{
      .launcher_pid = static_cast<uint32_t>(::getpid()),
      .coordinator_pid = pid_of(Kind::kCoordinator),
      .node_agent_pid = pid_of(Kind::kNodeAgent),
      .control_address = member::control_endpoint(options_).substr(6),  // Without "tcp://".
      .http_address = http_.address,
      .node = host_name(),
      .local = member::local_ranks(options_)};
  say(absl::StrFormat("\nready after %d ms: %s://%s\n\n  %s\n\n%s", milliseconds(),
                      has_tls ? "https" : "http", http_.reach_at,
                      curl_line(http_.reach_at, has_tls, !options_.server.api_keys.empty(),
                                names.empty() ? options_.model.model : names.front()),
                      process_tree(facts, view)));
}

void Launcher::say_who_is_missing() {
  if (was_complete_ || level_ != StopSignal::Level::kRun || now() < waiting_at_) return;
  waiting_at_ = now() + kWaitingInterval;
  std::string missing;
  const member::RankRange served = member::served_ranks(options_);
  for (uint32_t rank = served.first; rank < served.first + served.count; ++rank) {
    const auto* member = member::find_member(view_, wire::Role::kEngine, rank);
    if (member != nullptr && member->state == wire::MemberState::kReady) continue;
    const bool is_loading = member != nullptr && member->state == wire::MemberState::kStarting;
    missing += absl::StrFormat("%s%u%s", missing.empty() ? "" : ", ", rank,
                               is_loading ? " (loading)" : "");
  }
  if (!missing.empty()) say("waiting for ranks " + missing);
}

void Launcher::follow_stop() {
  const StopSignal::Level level = stop_.update();
  if (level == StopSignal::Level::kRun) return;
  if (level_ == StopSignal::Level::kRun) {
    say("stopping: running requests finish, a second signal ends them");
    stop_stage(Kind::kApiServer, SIGTERM);
  }
  const bool is_new_force = level == StopSignal::Level::kForce && level_ != level;
  level_ = level;
  if (is_new_force) force_stop();
  if (now() >= kill_at_) stop_stage(stage_, SIGKILL);
  const int signal = level == StopSignal::Level::kForce ? SIGKILL : SIGTERM;
  while (stage_ < Kind::kCoordinator && pid_of(stage_) == 0) {
    stop_stage(static_cast<Kind>(static_cast<int>(stage_) + 1), signal);
  }
}

void Launcher::force_stop() {
  if (stage_ != Kind::kApiServer) {
    stop_stage(stage_, SIGKILL);
    return;
  }
  // Not SIGTERM: one that still waits to be read would take a second one in.
  stop_stage(Kind::kApiServer, SIGINT);
  kill_at_ = now() + kForceGrace;
}

void Launcher::stop_stage(Kind kind, int signal) {
  stage_ = kind;
  const Duration drain = std::chrono::seconds(options_.server.shutdown_timeout_seconds);
  kill_at_ = signal == SIGKILL ? Instant::max() : now() + drain + kStopGrace;
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    if (kinds_[i] == kind) children_.stop(i, signal);
  }
}

// Of the first that runs.
uint32_t Launcher::pid_of(Kind kind) const {
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    if (kinds_[i] == kind && children_.is_running(i)) {
      return static_cast<uint32_t>(children_.pid(i));
    }
  }
  return 0;
}

long Launcher::milliseconds() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(now() - started_at_).count();
}

}  // namespace

Status run_launcher(const ServeOptions& options, std::span<const char* const> arguments,
                    StopSignal& stop) {
  TRIREME_ASSIGN_OR_RETURN(ListenSocket http, listen_on(options.server.host, options.server.port));
  TRIREME_ASSIGN_OR_RETURN(const auto context, member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(auto control, take_control_port(options, context->options()));
  ServeOptions ours = options;
  std::vector<const char*> for_children(arguments.begin(), arguments.end());
  const std::string port = control ? std::to_string(control->port) : "";
  if (control && options.parallel.data_parallel_rpc_port != control->port) {
    ours.parallel.data_parallel_rpc_port = control->port;
    for_children.insert(for_children.end(), {"--data-parallel-rpc-port", port.c_str()});
  }
  TRIREME_ASSIGN_OR_RETURN(auto link,
                           member::MemberLink::open(*context, ours,
                                                    {.role = wire::Role::kNodeAgent,
                                                     .index = member::launcher_index(ours),
                                                     .incarnation = Incarnation{entropy64()},
                                                     .config = member::cluster_config(ours)}));
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  TRIREME_ASSIGN_OR_RETURN(auto children, process::Supervisor::create({}));
  children.expect_pulse(std::chrono::seconds(options.worker.timeout_seconds));
  Launcher launcher(ours, std::move(http), std::move(control), std::move(children), std::move(link),
                    std::move(poller), stop);
  TRIREME_RETURN_IF_ERROR(launcher.start(for_children));
  return launcher.run();
}

}  // namespace trireme::api
