#include "proto/member/member_link.h"

#include <unistd.h>

#include <utility>

#include "common/host_name.h"
#include "common/log.h"
#include "common/version.h"
#include "common/zmq/context.h"
#include "common/zmq/dealer.h"
#include "common/zmq/message.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_key.h"
#include "proto/member/member_state.h"
#include "proto/messages.h"

namespace trireme::member {
namespace {

constexpr Duration kWarningInterval = std::chrono::seconds(10);
constexpr Duration kFirstWarning = std::chrono::seconds(3);
constexpr int kMessagesPerTurnMax = 256;
// Only to give up a connection that the network has lost: the lease tells who is alive.
constexpr Duration kHeartbeatInterval = std::chrono::seconds(5);

wire::Hello make_hello(const MemberIdentity& identity, const ServeOptions& options) {
  return {.role = identity.role,
          .index = identity.index,
          .incarnation = identity.incarnation,
          .node = host_name(),
          .pid = static_cast<uint32_t>(::getpid()),
          .version = kVersion,
          .config = identity.config,
          .launch = LaunchId{options.internal.launch}};
}

}  // namespace

struct MemberLink::Parts {
  Parts(zmq::Dealer dealer, MemberIdentity self, const ServeOptions& options, Instant start)
      : socket(std::move(dealer)),
        identity(std::move(self)),
        state(make_hello(identity, options),
              std::chrono::milliseconds(options.cluster.lease_milliseconds), start),
        endpoint(control_endpoint(options)),
        warn_at(start + kFirstWarning) {}

  int receive(Instant now);
  int send();
  void warn_of_silence(Instant now);

  zmq::Dealer socket;
  zmq::Message message;
  wire::Buffer buffer;
  MemberIdentity identity;
  MemberState state;
  std::string endpoint;
  Instant warn_at;
};

StatusOr<MemberLink> MemberLink::open(zmq::Context& context, const ServeOptions& options,
                                      MemberIdentity identity) {
  const wire::MemberKey key{identity.role, identity.index, identity.incarnation};
  // What is queued while there is no connection is old when it arrives: little of it, and the
  // coordinator expects that.
  const zmq::SocketOptions socket_options{.send_messages_max = 256,
                                          .heartbeat_interval = kHeartbeatInterval,
                                          .heartbeat_timeout = 2 * kHeartbeatInterval};
  TRIREME_ASSIGN_OR_RETURN(zmq::Dealer socket,
                           zmq::Dealer::create(context, wire::to_routing_id(key), socket_options));
  TRIREME_RETURN_IF_ERROR(
      annotate(socket.connect(control_endpoint(options)), "--data-parallel-address"));
  return MemberLink(
      std::make_unique<Parts>(std::move(socket), std::move(identity), options, trireme::now()));
}

MemberLink::MemberLink(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
MemberLink::MemberLink(MemberLink&&) noexcept = default;
MemberLink& MemberLink::operator=(MemberLink&&) noexcept = default;
MemberLink::~MemberLink() = default;

zmq::Socket& MemberLink::socket() { return parts_->socket; }
Instant MemberLink::wakeup() const { return parts_->state.wakeup(); }

int MemberLink::do_work(Instant now, bool is_alive) {
  const int received = parts_->receive(now);
  parts_->state.tick(now, is_alive);
  parts_->warn_of_silence(now);
  return received + parts_->send();
}

int MemberLink::Parts::receive(Instant now) {
  int count = 0;
  while (count < kMessagesPerTurnMax && socket.try_receive(message)) {
    ++count;
    auto incoming = message.frame_count() == 1
                        ? wire::unpack_any<Incoming>(message.frame(0))
                        : error(StatusCode::kDataLoss, "%u frames", message.frame_count());
    if (incoming.ok()) {
      state.on_message(now, *incoming);
    } else {
      log::warning("coordinator_message_dropped",
                   {{"reason", std::string(incoming.status().message())}});
    }
  }
  return count;
}

int MemberLink::Parts::send() {
  int count = 0;
  for (const Outgoing& outgoing : state.take_outgoing()) {
    buffer.clear();
    std::visit([&](const auto& m) { wire::pack(m, buffer); }, outgoing);
    count += socket.try_send(buffer) == zmq::SendResult::kSent;
  }
  return count;
}

void MemberLink::Parts::warn_of_silence(Instant now) {
  if (state.is_joined() || state.is_over()) {
    warn_at = now + kFirstWarning;
    return;
  }
  if (now < warn_at) return;
  warn_at = now + kWarningInterval;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(state.silence(now));
  if (seconds < kFirstWarning) return;  // It answers, and refuses us for now.
  // One voice a node: its ranks and front ends wait for the same.
  const bool is_parent = identity.role == wire::Role::kNodeAgent;
  log::write(is_parent ? log::Level::kWarning : log::Level::kInfo, "coordinator_unreachable",
             {{"endpoint", endpoint},
              {"silent_seconds", seconds.count()},
              {"hint", "is the front node up, with the same cluster key? still trying"}});
}

std::optional<Event> MemberLink::next_event() { return parts_->state.next_event(); }
void MemberLink::set_ready(wire::MemberReady ready) { parts_->state.set_ready(std::move(ready)); }
void MemberLink::set_draining() { parts_->state.set_draining(); }
void MemberLink::report_load(const wire::EngineStats& stats) { parts_->state.report_load(stats); }
void MemberLink::set_wave(wire::WaveEventKind standing, WaveId wave, std::vector<uint32_t> awaits) {
  parts_->state.set_wave(standing, wave, std::move(awaits));
}
void MemberLink::report_rank(wire::RankReport report) {
  parts_->state.report_rank(std::move(report));
}
void MemberLink::leave(std::string reason) {
  parts_->state.leave(std::move(reason));
  parts_->send();
}

bool MemberLink::is_joined() const { return parts_->state.is_joined(); }
const wire::View& MemberLink::view() const { return parts_->state.view(); }
const MemberIdentity& MemberLink::identity() const { return parts_->identity; }

}  // namespace trireme::member
