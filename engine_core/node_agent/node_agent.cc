#include "engine_core/node_agent/node_agent.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/process/sibling_binary.h"
#include "common/process/supervisor.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/poller.h"
#include "engine_core/node_agent/lockstep_memory.h"
#include "engine_core/node_agent/weight_images.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"
#include "proto/member/view_text.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kLinkToken = 1;
constexpr uint64_t kChildrenToken = 2;
constexpr uint64_t kStopToken = 3;
constexpr Duration kSilenceMax = std::chrono::seconds(2);
constexpr Duration kSayInterval = std::chrono::seconds(30);

class NodeAgent {
 public:
  NodeAgent(const ServeOptions& options, process::Supervisor children, member::MemberLink link,
            zmq::Poller poller, StopSignal& stop, const process::Pulse& pulse)
      : options_(options),
        local_(member::local_ranks(options)),
        children_(std::move(children)),
        link_(std::move(link)),
        poller_(std::move(poller)),
        stop_(stop),
        pulse_(pulse),
        ranks_(local_.count),
        weights_(WeightImages::create(options,
                                      worker::read_machine_cores("", worker::allowed_cpus()))) {}

  Status start(const std::string& program, std::span<const char* const> arguments);
  Status run();

 private:
  struct Rank {
    Incarnation incarnation;  // Of the life that runs, once it is in the view.
    bool was_ready = false;
  };

  [[nodiscard]] bool was_ready() const {
    return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.was_ready; });
  }
  void wait();
  void say_who_is_awaited();
  Status on_death(const process::Death& death);
  Status on_event(const member::Event& event);
  void on_view(const wire::View& view);
  void follow_stop();

  const ServeOptions& options_;
  member::RankRange local_;
  process::Supervisor children_;
  member::MemberLink link_;
  zmq::Poller poller_;
  StopSignal& stop_;
  process::Pulse pulse_;
  std::vector<Rank> ranks_;
  WeightImages weights_;
  LockstepMemory lockstep_;
  wire::View view_;
  Instant say_at_ = now() + kSilenceMax;
  StopSignal::Level level_ = StopSignal::Level::kRun;
  Instant kill_at_ = Instant::max();
};

Status NodeAgent::start(const std::string& program, std::span<const char* const> arguments) {
  TRIREME_ASSIGN_OR_RETURN(lockstep_, LockstepMemory::create(options_));
  for (uint32_t i = 0; i < local_.count; ++i) {
    process::ChildOptions child{.argv = {program}};
    child.argv.insert(child.argv.end(), arguments.begin(), arguments.end());
    child.argv.insert(child.argv.end(),
                      {"--internal-engine-rank", std::to_string(local_.first + i)});
    weights_.hand_to(child, i);
    lockstep_.hand_to(child);
    children_.add(absl::StrFormat("rank %u", local_.first + i), std::move(child));
  }
  link_.set_ready({});
  TRIREME_RETURN_IF_ERROR(poller_.add(link_.socket(), kLinkToken));
  TRIREME_RETURN_IF_ERROR(poller_.add_fd(children_.fd(), kChildrenToken));
  return poller_.add_fd(stop_.fd(), kStopToken);
}

Status NodeAgent::run() {
  while (level_ == StopSignal::Level::kRun || children_.running_count() > 0) {
    pulse_.beat();
    for (const process::Death& death : children_.tick(now())) {
      TRIREME_RETURN_IF_ERROR(on_death(death));
    }
    link_.do_work(now(), /*is_alive=*/true);
    while (auto event = link_.next_event()) TRIREME_RETURN_IF_ERROR(on_event(*event));
    say_who_is_awaited();
    follow_stop();
    if (level_ == StopSignal::Level::kRun || children_.running_count() > 0) wait();
  }
  link_.leave("stopped");
  return absl::OkStatus();
}

void NodeAgent::wait() {
  (void)poller_.wait(
      Deadline(std::min({link_.wakeup(), children_.wakeup(), kill_at_, pulse_.due_at(now())})));
}

// A headless node that stands alone waits without end, in any start order; its user should know.
void NodeAgent::say_who_is_awaited() {
  if (!options_.parallel.headless) return;
  if (link_.is_joined()) say_at_ = now() + kSilenceMax;
  if (now() < say_at_ || level_ != StopSignal::Level::kRun) return;
  say_at_ = now() + kSayInterval;
  std::printf(
      "waiting for the front node at %s (--data-parallel-address, --data-parallel-rpc-port)\n",
      member::control_endpoint(options_).c_str());
  std::fflush(stdout);
}

Status NodeAgent::on_death(const process::Death& death) {
  const EngineId engine{local_.first + static_cast<uint32_t>(death.child)};
  const Incarnation life = std::exchange(ranks_[death.child].incarnation, Incarnation{});
  if (!death.restart_in) {
    log::info("rank_stopped", {{"rank", engine.value}, {"reason", death.reason}});
    return absl::OkStatus();
  }
  if (!was_ready() && (death.is_for_a_person || death.deaths_in_a_row >= kStartTriesMax)) {
    return error(death.is_for_a_person ? StatusCode::kFailedPrecondition : StatusCode::kUnavailable,
                 "rank %u cannot start: %s", engine.value, death.reason);
  }
  const auto wait_ms = std::chrono::duration_cast<std::chrono::milliseconds>(*death.restart_in);
  log::warning("rank_died", {{"rank", engine.value},
                             {"child_pid", death.pid},
                             {"reason", death.reason},
                             {"restarts", death.restarts},
                             {"restart_in_ms", wait_ms.count()}});
  link_.report_rank({.engine = engine,
                     .incarnation = life,
                     .reason = death.reason,
                     .restarts = static_cast<uint32_t>(death.restarts),
                     .restart_in_milliseconds = static_cast<uint32_t>(wait_ms.count())});
  return absl::OkStatus();
}

Status NodeAgent::on_event(const member::Event& event) {
  if (const auto* refused = std::get_if<member::Refused>(&event)) {
    if (refused->is_final) {
      return error(StatusCode::kFailedPrecondition, "the coordinator refused this node: %s",
                   refused->reason);
    }
    log::warning("refused_for_now", {{"reason", refused->reason}});
  } else if (const auto* view = std::get_if<wire::View>(&event)) {
    on_view(*view);
  }
  return absl::OkStatus();
}

void NodeAgent::on_view(const wire::View& view) {
  for (uint32_t i = 0; i < local_.count; ++i) {
    const auto* member = member::find_member(view, wire::Role::kEngine, local_.first + i);
    const bool is_ours = member != nullptr && static_cast<pid_t>(member->pid) == children_.pid(i);
    if (!is_ours) continue;
    ranks_[i].incarnation = member->incarnation;
    ranks_[i].was_ready |= member->state == wire::MemberState::kReady;
  }
  if (options_.parallel.headless) {
    for (const std::string& line : member::changes_between(view_, view)) {
      std::printf("%s\n", line.c_str());
    }
    std::fflush(stdout);
  }
  view_ = view;
}

void NodeAgent::follow_stop() {
  const StopSignal::Level level = stop_.update();
  const bool is_overdue = now() >= kill_at_;
  if (level == level_ && !is_overdue) return;
  const bool kills = level == StopSignal::Level::kForce || is_overdue;
  if (kill_at_ == Instant::max()) {
    kill_at_ = now() + std::chrono::seconds(options_.server.shutdown_timeout_seconds) + kStopGrace;
  } else if (is_overdue) {
    kill_at_ = Instant::max();
  }
  level_ = level;
  for (std::size_t i = 0; i < children_.child_count(); ++i) {
    children_.stop(i, kills ? SIGKILL : SIGTERM);
  }
}

}  // namespace

Status run_node_agent(const ServeOptions& options, std::span<const char* const> arguments,
                      StopSignal& stop, const process::Pulse& pulse) {
  const member::RankRange local = member::local_ranks(options);
  if (local.count == 0) {
    return error(StatusCode::kInvalidArgument,
                 "--data-parallel-size-local 0: this node has no engine to run");
  }
  ::signal(SIGPIPE, SIG_IGN);  // Who reads our output may go; the ranks stay.
  TRIREME_ASSIGN_OR_RETURN(const std::string program, process::find_sibling_binary("engine-core"));
  TRIREME_ASSIGN_OR_RETURN(const auto context, member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(auto link,
                           member::MemberLink::open(*context, options,
                                                    {.role = wire::Role::kNodeAgent,
                                                     .index = local.first,
                                                     .incarnation = Incarnation{entropy64()},
                                                     .config = member::cluster_config(options)}));
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  TRIREME_ASSIGN_OR_RETURN(auto children, process::Supervisor::create({}));
  children.expect_pulse(std::chrono::seconds(options.worker.timeout_seconds));
  NodeAgent agent(options, std::move(children), std::move(link), std::move(poller), stop, pulse);
  TRIREME_RETURN_IF_ERROR(agent.start(program, arguments));
  return agent.run();
}

}  // namespace trireme::engine
