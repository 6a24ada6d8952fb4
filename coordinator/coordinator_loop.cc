#include "coordinator/coordinator_loop.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/message.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"
#include "coordinator/coordinator_state.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"
#include "proto/messages.h"

namespace trireme::coordinator {
namespace {

constexpr uint64_t kRouterToken = 1;
constexpr uint64_t kStopToken = 2;
constexpr int kMessagesPerTurnMax = 4096;

ViewOptions view_options(const ServeOptions& options) {
  return {.engine_count = options.parallel.data_parallel_size,
          .lease = std::chrono::milliseconds(options.cluster.lease_milliseconds),
          .config = member::cluster_config(options),
          .self = Incarnation{entropy64()}};
}

}  // namespace

struct CoordinatorLoop::Parts {
  Parts(zmq::Router bound, zmq::Poller waiter, const ServeOptions& options, Instant start)
      : router(std::move(bound)),
        poller(std::move(waiter)),
        state(view_options(options), start, wave_base(static_cast<uint64_t>(unix_milliseconds()))),
        endpoint(router.last_endpoint()) {}

  void receive(Instant now);
  void receive_one(Instant now);
  void send();
  void send_to(const wire::MemberKey& to);
  void report(Instant now);

  zmq::Router router;
  zmq::Poller poller;
  zmq::Message message;
  wire::Buffer buffer;
  CoordinatorState state;
  std::string endpoint;
  uint64_t garbage = 0;
  uint64_t unsent = 0;
  uint64_t reported = 0;
  Epoch epoch_logged;
  Instant report_at = Instant::min();
};

StatusOr<std::unique_ptr<CoordinatorLoop>> CoordinatorLoop::create(zmq::Context& context,
                                                                   const ServeOptions& options) {
  // The members ping, seldom: leases tell who is alive, and 1,024 pings a second cost 5 % of a
  // core.
  TRIREME_ASSIGN_OR_RETURN(zmq::Router router,
                           zmq::Router::create(context, {.heartbeat_interval = Duration::zero(),
                                                         .listen_fd = options.internal.listen_fd}));
  TRIREME_RETURN_IF_ERROR(annotate(router.bind(member::control_endpoint(options)),
                                   "--data-parallel-address, --data-parallel-rpc-port"));
  TRIREME_ASSIGN_OR_RETURN(zmq::Poller poller, zmq::Poller::create());
  auto parts =
      std::make_unique<Parts>(std::move(router), std::move(poller), options, trireme::now());
  TRIREME_RETURN_IF_ERROR(parts->poller.add(parts->router, kRouterToken));
  return std::unique_ptr<CoordinatorLoop>(new CoordinatorLoop(std::move(parts)));
}

CoordinatorLoop::CoordinatorLoop(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
CoordinatorLoop::~CoordinatorLoop() = default;
const std::string& CoordinatorLoop::endpoint() const { return parts_->endpoint; }
uint64_t CoordinatorLoop::garbage_total() const { return parts_->garbage; }

Status CoordinatorLoop::run(StopSignal& stop, const process::Pulse& pulse) {
  TRIREME_RETURN_IF_ERROR(parts_->poller.add_fd(stop.fd(), kStopToken));
  log::info("coordinator_ready", {{"endpoint", parts_->endpoint}});
  while (stop.update() == StopSignal::Level::kRun) {
    pulse.beat();
    turn(Deadline(pulse.due_at(trireme::now())));
  }
  return absl::OkStatus();
}

void CoordinatorLoop::turn(Deadline deadline) {
  const Instant until = std::min(deadline.at(), parts_->state.wakeup());
  (void)parts_->poller.wait(Deadline(until));
  const Instant time = trireme::now();
  parts_->receive(time);
  parts_->state.note_dropped(parts_->router.handshakes_failed_total(), parts_->garbage);
  parts_->state.tick(time);
  parts_->send();
  parts_->report(time);
}

void CoordinatorLoop::Parts::receive(Instant now) {
  for (int i = 0; i < kMessagesPerTurnMax && router.try_receive(message); ++i) receive_one(now);
}

void CoordinatorLoop::Parts::receive_one(Instant now) {
  const auto from = wire::to_member_key(message.peer());
  if (!from || message.frame_count() != 1) {
    ++garbage;
    return;
  }
  const auto incoming = wire::unpack_any<Incoming>(message.frame(0));
  if (incoming.ok()) {
    state.on_message(now, *from, *incoming);
    return;
  }
  ++garbage;
  const bool is_newer_hello = incoming.status().code() == StatusCode::kFailedPrecondition &&
                              wire::peek_kind(message.frame(0)) == wire::MessageKind::kHello;
  if (!is_newer_hello) return;
  buffer.clear();
  wire::pack(wire::Refuse{.reason = std::string(incoming.status().message())}, buffer);
  send_to(*from);
}

void CoordinatorLoop::Parts::send() {
  for (const Send& outgoing : state.take_sends()) {
    buffer.clear();
    std::visit([&](const auto& m) { wire::pack(m, buffer); }, outgoing.message);
    for (const wire::MemberKey& to : outgoing.to) send_to(to);
  }
}

void CoordinatorLoop::Parts::send_to(const wire::MemberKey& to) {
  if (router.try_send(wire::to_routing_id(to), buffer) != zmq::SendResult::kSent) ++unsent;
}

void CoordinatorLoop::Parts::report(Instant now) {
  for (const std::string& reason : state.take_news()) {
    log::warning("rank_left_out", {{"reason", reason}});
  }
  if (now < report_at) return;
  report_at = now + kReportInterval;
  const wire::View& view = state.view().published();
  if (view.epoch != epoch_logged) {
    log::info("view", {{"epoch", view.epoch.value}, {"members", view.members.size()}});
    epoch_logged = view.epoch;
  }
  const uint64_t dropped = garbage + state.dropped();
  if (dropped == reported) return;
  log::warning("control_messages_dropped",
               {{"undecodable", garbage}, {"not_in_view", state.dropped()}, {"unsent", unsent}});
  reported = dropped;
}

}  // namespace trireme::coordinator
