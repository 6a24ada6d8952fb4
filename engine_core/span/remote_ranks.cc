#include "engine_core/span/remote_ranks.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/device/device_choice.h"
#include "common/host_name.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/dealer.h"
#include "common/zmq/poller.h"
#include "engine_core/span/group_seat.h"
#include "engine_core/span/listeners.h"
#include "engine_core/span/local_workers.h"
#include "engine_core/span/remote_workers.h"
#include "engine_core/span/seat_watch.h"
#include "engine_core/span/worker_span.h"
#include "engine_core/stall_log.h"
#include "proto/member/cluster_context.h"
#include "proto/messages.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kSocketToken = 1;
constexpr uint64_t kStopToken = 2;
constexpr uint64_t kFirstWorkerToken = 3;
constexpr Duration kWaitingInterval = std::chrono::seconds(10);
// Nothing is reachable yet: no route, no name.
constexpr Duration kRetryInterval = std::chrono::seconds(1);
constexpr int kMessagesPerTurnMax = 64;

// What stays the same from one group to the next.
struct Place {
  const ServeOptions& options;
  const std::vector<std::string>& command_line;
  WorkerSpan span;
  std::string endpoint;
  std::vector<wire::ConfigEntry> config;
  std::string title;  // "engine 0, worker ranks 2-3"
  bool is_launched;
  process::Pulse pulse;

  void say(const std::string& text) const {
    std::printf("%s: %s\n", title.c_str(), text.c_str());
    std::fflush(stdout);
  }
};

// From asking for a seat to the end of the group.
class Attempt {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<Attempt>> begin(const Place& place,
                                                                const zmq::Context& context,
                                                                StopSignal& stop);
  // How it ended: OK when the engine or we were told to stop, kFailedPrecondition when refused for
  // good, kAborted when a worker of ours died, kUnavailable when the group is over for another
  // reason.
  [[nodiscard]] Status run();

 private:
  Attempt(const Place& place, StopSignal& stop, zmq::Dealer socket, zmq::Poller poller,
          std::vector<Listener> listeners, wire::GroupHello hello)
      : place_(place),
        stop_(stop),
        socket_(std::move(socket)),
        poller_(std::move(poller)),
        listeners_(std::move(listeners)),
        seat_(std::move(hello), now()),
        watch_(EngineId{place.options.internal.engine_rank}, place.span.tp_size,
               std::chrono::seconds(place.options.worker.timeout_seconds)),
        waiting_at_(now() + std::chrono::seconds(1)) {}

  void read(Instant now);
  void write();
  void look_at_workers();
  void watch_step(Instant now);
  void stop_watching_workers();
  void say_waiting(Instant now);
  [[nodiscard]] bool has_to_leave(Instant now);
  [[nodiscard]] Status start_workers();

  const Place& place_;
  StopSignal& stop_;
  zmq::Dealer socket_;
  zmq::Poller poller_;
  std::vector<Listener> listeners_;
  GroupSeat seat_;
  LocalWorkers workers_;
  SeatWatch watch_;
  zmq::Message message_;
  wire::Buffer buffer_;
  Instant waiting_at_;
  bool has_workers_ = false;
  bool was_serving_ = false;
  Instant leave_at_ = Instant::max();
};

StatusOr<std::unique_ptr<Attempt>> Attempt::begin(const Place& place, const zmq::Context& context,
                                                  StopSignal& stop) {
  const uint32_t node_rank = place.options.parallel.node_rank;
  TRIREME_ASSIGN_OR_RETURN(const std::string address,
                           address_towards(place.options.parallel.master_address));
  TRIREME_ASSIGN_OR_RETURN(auto listeners, make_listeners(place.span, node_rank, address));
  wire::GroupHello hello{.first_rank = place.span.first_rank(node_rank),
                         .rank_count = place.span.ranks_per_place,
                         .incarnation = Incarnation{entropy64() | 1},
                         .node = host_name(),
                         .pid = static_cast<uint32_t>(::getpid()),
                         .config = place.config,
                         .listeners = told_of(listeners)};
  const std::string identity =
      absl::StrFormat("seat-%u-%x", hello.first_rank, hello.incarnation.value);
  TRIREME_ASSIGN_OR_RETURN(auto socket,
                           zmq::Dealer::create(context, identity, {.only_when_connected = true}));
  TRIREME_RETURN_IF_ERROR(socket.connect(place.endpoint));
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  std::unique_ptr<Attempt> attempt(new Attempt(place, stop, std::move(socket), std::move(poller),
                                               std::move(listeners), std::move(hello)));
  TRIREME_RETURN_IF_ERROR(attempt->poller_.add(attempt->socket_, kSocketToken));
  TRIREME_RETURN_IF_ERROR(attempt->poller_.add_fd(stop.fd(), kStopToken));
  return attempt;
}

Status Attempt::run() {
  while (!seat_.is_over()) {
    const Instant turn = now();
    place_.pulse.beat();
    read(turn);
    if (has_to_leave(turn)) seat_.leave(Status(StatusCode::kCancelled, "stopped"));
    if (seat_.is_seated() && !has_workers_) {
      if (const Status started = start_workers(); !started.ok()) seat_.leave(started);
    }
    if (has_workers_) look_at_workers();
    if (has_workers_) watch_step(turn);
    seat_.tick(turn);
    say_waiting(turn);
    write();
    if (seat_.is_over()) break;
    const Instant waiting = has_workers_ ? Instant::max() : waiting_at_;
    (void)poller_.wait(Deadline(std::min(
        {seat_.wakeup(), waiting, leave_at_, watch_.look_at(), place_.pulse.due_at(turn)})));
  }
  workers_.stop(Deadline(Instant{}));
  const Status why = seat_.why();
  return why.code() == StatusCode::kCancelled ? absl::OkStatus() : why;
}

bool Attempt::has_to_leave(Instant now) {
  const StopSignal::Level level = stop_.update();
  if (level == StopSignal::Level::kRun) return false;
  if (!place_.is_launched || !has_workers_ || level == StopSignal::Level::kForce) return true;
  const auto patience = std::chrono::seconds(place_.options.server.shutdown_timeout_seconds);
  if (leave_at_ == Instant::max()) leave_at_ = now + patience;
  return now >= leave_at_;
}

Status Attempt::start_workers() {
  const wire::GroupPlan& plan = seat_.plan();
  has_workers_ = true;
  const Status started = workers_.start(
      {.span = place_.span,
       .place = place_.options.parallel.node_rank,
       .program = worker_program(place_.options.worker.device),
       .engine = {.steps_endpoint = plan.steps_endpoint, .results_endpoint = plan.results_endpoint},
       .group = plan.group.value,
       .elsewhere = plan.listeners,
       .command_line = place_.command_line,
       .weight_fds = place_.options.internal.weight_image_fds},
      listeners_);
  listeners_.clear();
  TRIREME_RETURN_IF_ERROR(started);
  uint64_t token = kFirstWorkerToken;
  for (const int pidfd : workers_.pidfds()) {
    TRIREME_RETURN_IF_ERROR(poller_.add_fd(pidfd, token++));
  }
  std::string pids;
  for (const int pid : workers_.pids()) absl::StrAppendFormat(&pids, " %d", pid);
  place_.say(absl::StrFormat("loading (pids%s) for the engine on node '%s' (pid %u)", pids,
                             plan.node, plan.pid));
  return absl::OkStatus();
}

void Attempt::look_at_workers() {
  bool is_clean = false;
  const Status health = workers_.check(&is_clean);
  if (!health.ok() && !is_clean) {
    return seat_.leave(Status(StatusCode::kAborted, health.message()));
  }
  // A worker that ends well was told to by its engine, whose own word follows, or its lease ends.
  if (!health.ok()) return stop_watching_workers();
  if (seat_.is_serving() && !std::exchange(was_serving_, true)) {
    std::string pids;
    for (const int pid : workers_.pids()) absl::StrAppendFormat(&pids, " %d", pid);
    place_.say(absl::StrFormat("serving (pids%s)", pids));
  }
}

void Attempt::watch_step(Instant now) {
  watch_.on_late_step(seat_.late_step(), now);
  if (now < watch_.look_at()) return;
  const SeatWatch::Finding found = watch_.look(workers_.look(), now);
  if (found.is_news) {
    log_stall({.event = "step_slow", .wave = {}, .stall = found.stall, .text = found.text});
  }
  if (!found.stuck) return;
  workers_.kill(*found.stuck);
  seat_.leave(error(StatusCode::kAborted, "worker killed, as it made no progress: %s", found.text));
}

void Attempt::stop_watching_workers() {
  for (uint64_t i = 0; i < workers_.pidfds().size(); ++i) poller_.remove(kFirstWorkerToken + i);
}

void Attempt::say_waiting(Instant now) {
  if (has_workers_ || now < waiting_at_) return;
  waiting_at_ = now + kWaitingInterval;
  place_.say("waiting for the engine at " + place_.endpoint +
             (seat_.told().empty() ? "" : ": " + seat_.told()));
}

void Attempt::read(Instant now) {
  for (int i = 0; i < kMessagesPerTurnMax && socket_.try_receive(message_); ++i) {
    if (message_.frame_count() != 1) continue;
    const auto known = wire::unpack_any<ToSeat>(message_.frame(0));
    if (known.ok()) seat_.on_message(now, *known);
  }
}

void Attempt::write() {
  for (const FromSeat& message : seat_.take_outgoing()) {
    buffer_.clear();
    std::visit([&](const auto& known) { wire::pack(known, buffer_); }, message);
    (void)socket_.try_send(buffer_);  // Lost: repeated by the protocol, or the lease tells.
  }
}

// Until a moment later, or a stop.
void pause(StopSignal& stop) {
  auto poller = zmq::Poller::create();
  if (!poller.ok() || !poller->add_fd(stop.fd(), kStopToken).ok()) return;
  (void)poller->wait(Deadline::after(kRetryInterval));
}

}  // namespace

Status run_remote_ranks(const ServeOptions& options, const std::vector<std::string>& command_line,
                        StopSignal& stop, const RemoteRanksOptions& how) {
  const WorkerSpan span = worker_span(options);
  TRIREME_ASSIGN_OR_RETURN(const std::string endpoint, rendezvous_endpoint(options));
  TRIREME_ASSIGN_OR_RETURN(auto config, group_config(options));
  TRIREME_ASSIGN_OR_RETURN(const auto context, member::make_cluster_context(options));
  const Place place{
      .options = options,
      .command_line = command_line,
      .span = span,
      .endpoint = endpoint,
      .config = std::move(config),
      .title = absl::StrFormat(
          "engine %u, worker %s", options.internal.engine_rank,
          rank_range_text(span.first_rank(options.parallel.node_rank), span.ranks_per_place)),
      .is_launched = how.is_launched,
      .pulse = how.pulse};
  place.say("asking the engine at " + endpoint);
  while (true) {
    auto attempt = Attempt::begin(place, *context, stop);
    const Status end = attempt.ok() ? (*attempt)->run() : attempt.status();
    if (stop.update() != StopSignal::Level::kRun) return absl::OkStatus();
    if (end.code() == StatusCode::kAborted) {
      return Status(StatusCode::kUnavailable, end.message());
    }
    const bool goes_on = end.ok() || end.code() == StatusCode::kUnavailable;
    if (!goes_on || (attempt.ok() && how.is_launched)) return end;
    place.say(end.ok() ? "over: the engine was stopped" : "over: " + std::string(end.message()));
    place.pulse.beat();
    if (!attempt.ok()) pause(stop);
  }
}

}  // namespace trireme::engine
