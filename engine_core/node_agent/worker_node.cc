#include "engine_core/node_agent/worker_node.h"

#include <signal.h>

#include <algorithm>
#include <string>
#include <utility>

#include "common/log.h"
#include "common/process/sibling_binary.h"
#include "common/process/supervisor.h"
#include "common/zmq/poller.h"
#include "engine_core/node_agent/node_agent.h"
#include "engine_core/node_agent/weight_images.h"
#include "engine_core/span/group_host.h"
#include "engine_core/span/worker_span.h"
#include "proto/member/cluster_shape.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kChildrenToken = 1;
constexpr uint64_t kStopToken = 2;

class WorkerNode {
 public:
  WorkerNode(process::Supervisor children, zmq::Poller poller, StopSignal& stop)
      : children_(std::move(children)), poller_(std::move(poller)), stop_(stop) {}

  Status start(const std::string& program, std::span<const char* const> arguments,
               const ServeOptions& options);
  Status run();

 private:
  [[nodiscard]] Status on_death(const process::Death& death) const;
  void follow_stop();

  process::Supervisor children_;
  WeightImages weights_;
  zmq::Poller poller_;
  StopSignal& stop_;
  StopSignal::Level level_ = StopSignal::Level::kRun;
  Instant kill_at_ = Instant::max();
};

Status WorkerNode::start(const std::string& program, std::span<const char* const> arguments,
                         const ServeOptions& options) {
  const WorkerSpan span = worker_span(options);
  const std::string workers =
      rank_range_text(span.first_rank(options.parallel.node_rank), span.ranks_per_place);
  const member::RankRange engines = member::local_ranks(options);
  weights_ = WeightImages::create(options, worker::read_machine_cores("", worker::allowed_cpus()));
  for (uint32_t i = 0; i < engines.count; ++i) {
    const std::string rank = std::to_string(engines.first + i);
    process::ChildOptions child{.argv = {program}};
    child.argv.insert(child.argv.end(), arguments.begin(), arguments.end());
    child.argv.insert(child.argv.end(), {"--internal-engine-rank", rank});
    weights_.hand_to(child, i);
    children_.add(workers + ", the workers of engine " + rank, std::move(child));
  }
  TRIREME_RETURN_IF_ERROR(poller_.add_fd(children_.fd(), kChildrenToken));
  return poller_.add_fd(stop_.fd(), kStopToken);
}

Status WorkerNode::run() {
  while (level_ == StopSignal::Level::kRun || children_.running_count() > 0) {
    for (const process::Death& death : children_.tick(now())) {
      TRIREME_RETURN_IF_ERROR(on_death(death));
    }
    follow_stop();
    if (level_ != StopSignal::Level::kRun && children_.running_count() == 0) break;
    (void)poller_.wait(Deadline(std::min(children_.wakeup(), kill_at_)));
  }
  return absl::OkStatus();
}

Status WorkerNode::on_death(const process::Death& death) const {
  const std::string& title = children_.name(death.child);
  if (!death.restart_in) return absl::OkStatus();
  if (death.is_for_a_person) {
    return error(StatusCode::kFailedPrecondition, "%s: %s", title, death.reason);
  }
  const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(*death.restart_in);
  log::warning("workers_died", {{"who", title},
                                {"child_pid", death.pid},
                                {"reason", death.reason},
                                {"restarts", death.restarts},
                                {"restart_in_ms", wait.count()}});
  return absl::OkStatus();
}

void WorkerNode::follow_stop() {
  const StopSignal::Level level = stop_.update();
  const bool is_overdue = now() >= kill_at_;
  if (level == level_ && !is_overdue) return;
  level_ = level;
  kill_at_ = is_overdue ? Instant::max() : now() + kStopGrace;
  const bool kills = level == StopSignal::Level::kForce || is_overdue;
  for (std::size_t i = 0; i < children_.child_count(); ++i) {
    children_.stop(i, kills ? SIGKILL : SIGTERM);
  }
}

}  // namespace

Status run_worker_node(const ServeOptions& options, std::span<const char* const> arguments,
                       StopSignal& stop) {
  ::signal(SIGPIPE, SIG_IGN);  // Who reads our output may go; the workers stay.
  TRIREME_ASSIGN_OR_RETURN(const std::string program, process::find_sibling_binary("engine-core"));
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  TRIREME_ASSIGN_OR_RETURN(auto children, process::Supervisor::create({}));
  children.expect_pulse(std::chrono::seconds(options.worker.timeout_seconds));
  WorkerNode node(std::move(children), std::move(poller), stop);
  TRIREME_RETURN_IF_ERROR(node.start(program, arguments, options));
  return node.run();
}

}  // namespace trireme::engine
