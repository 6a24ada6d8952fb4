#include "api_server/engine_client/engine_loop.h"

#include <utility>

#include "api_server/http/asio.h"
#include "common/clock.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"
#include "proto/member/member_link.h"

namespace trireme::api {
namespace {

constexpr uint64_t kRouterToken = 1;
constexpr uint64_t kMemberToken = 2;
// A turn that takes more leaves the rest to the next one, so that HTTP gets its share.
constexpr int kMessagesPerTurn = 256;
// Aborts that a full queue refused are tried again then.
constexpr std::chrono::milliseconds kTickMax(50);

zmq::SocketOptions router_options() {
  zmq::SocketOptions options;
  // The admission bound is far below; these are the last line against a peer that does not read.
  options.send_messages_max = 16'384;
  options.receive_messages_max = 16'384;
  return options;
}

}  // namespace

struct EngineLoop::Parts final : public EngineTransport {
  Parts(asio::io_context& io, zmq::Router socket, zmq::Poller poll,
        const EngineClientOptions& options)
      : context(io),
        router(std::move(socket)),
        poller(std::move(poll)),
        announced(io.get_executor(), poller.fd()),
        timer(io.get_executor()),
        client(options, *this) {}
  ~Parts() override { announced.release(); }

  TransportResult send(std::string_view peer, const wire::Buffer& bytes) override {
    has_sent = true;
    look_again();
    switch (router.try_send(peer, zmq::Bytes(bytes))) {
      case zmq::SendResult::kSent:
        return TransportResult::kSent;
      case zmq::SendResult::kFull:
        return TransportResult::kFull;
      case zmq::SendResult::kNoPeer:
        break;
    }
    return TransportResult::kGone;
  }

  uint64_t handshakes_failed_total() const override { return router.handshakes_failed_total(); }

  // Once more in this turn, after everything that is ready now.
  void look_again() {
    if (is_turning || is_turn_posted) return;
    is_turn_posted = true;
    asio::post(context, [this] {
      is_turn_posted = false;
      turn();
    });
  }

  void wait_for_announcement() {
    announced.async_wait(Descriptor::wait_read, [this](ErrorCode code) {
      if (code) return;
      turn();
      wait_for_announcement();
    });
  }

  // Periodic by nature (leases, keep-alives), so one timer for all of it.
  void wait_for_tick() {
    const Instant due = now() + kTickMax;
    timer.expires_at(link ? std::min(due, link->wakeup()) : due);
    timer.async_wait([this](ErrorCode code) {
      if (code) return;
      notice_ended_connections();
      client.tick(now());
      turn();
      wait_for_tick();
    });
  }

  // Told of before the router itself knows, so in two ticks.
  void notice_ended_connections() {
    const uint64_t ended = router.connections_ended_total();
    if (ended != ended_seen) checks_left = 2;
    ended_seen = ended;
    if (checks_left == 0) return;
    --checks_left;
    client.check_connections();
  }

  void turn() {
    is_turning = true;
    int left = kMessagesPerTurn;
    bool was_busy = true;
    while (was_busy && left > 0) {
      was_busy = false;
      while (left > 0 && router.try_receive(message)) {
        --left;
        was_busy = true;
        if (message.frame_count() == 1) {
          client.on_message(message.peer(), message.frame(0));
        } else {
          client.on_message(message.peer(), {});  // No message of ours: counted there.
        }
      }
      // A disconnected client or a failed send is told to the engines before the loop sleeps.
      client.flush();
      if (std::exchange(has_sent, false)) was_busy = true;
      tell_when_engines_are_there();
      if (link && link->do_work(now(), true) > 0) was_busy = true;
      while (link) {
        std::optional<member::Event> event = link->next_event();
        if (!event) break;
        was_busy = true;
        take(*event);
      }
    }
    is_turning = false;
    if (left == 0) look_again();
  }

  // Who waits for the cluster (the launcher) waits until requests find every engine.
  void tell_when_engines_are_there() {
    if (!link || !ready_with_engines || !client.has_all_engines()) return;
    link->set_ready(*std::exchange(ready_with_engines, std::nullopt));
  }

  void take(const member::Event& event) {
    if (std::holds_alternative<member::Accepted>(event)) client.set_coordinator_heard(true);
    if (std::holds_alternative<member::CoordinatorSilent>(event)) {
      client.set_coordinator_heard(false);
    }
    if (const auto* view = std::get_if<wire::View>(&event)) client.on_view(*view);
    if (const auto* board = std::get_if<wire::LoadBoard>(&event)) client.on_load_board(*board);
    if (on_event) on_event(event);
  }

  using Descriptor = asio::posix::basic_stream_descriptor<Executor>;
  asio::io_context& context;
  zmq::Router router;
  zmq::Poller poller;
  Descriptor announced;
  Timer timer;
  zmq::Message message;
  std::optional<member::MemberLink> link;
  std::optional<wire::MemberReady> ready_with_engines;
  std::function<void(const member::Event&)> on_event;
  EngineClient client;
  uint64_t ended_seen = 0;  // Connections.
  int checks_left = 0;
  bool has_sent = false;  // So an announcement may have been taken in.
  bool is_turning = false;
  bool is_turn_posted = false;
};

StatusOr<std::unique_ptr<EngineLoop>> EngineLoop::open(asio::io_context& context, zmq::Context& zmq,
                                                       const std::string& host,
                                                       const EngineClientOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(zmq::Router router, zmq::Router::create(zmq, router_options()));
  const bool is_ipv6 = host.find(':') != std::string::npos;
  TRIREME_RETURN_IF_ERROR(
      router.bind(absl::StrFormat(is_ipv6 ? "tcp://[%s]:0" : "tcp://%s:0", host)));
  TRIREME_ASSIGN_OR_RETURN(zmq::Poller poller, zmq::Poller::create());
  auto parts = std::make_unique<Parts>(context, std::move(router), std::move(poller), options);
  TRIREME_RETURN_IF_ERROR(parts->poller.add(parts->router, kRouterToken));
  parts->wait_for_announcement();
  parts->wait_for_tick();
  return std::unique_ptr<EngineLoop>(new EngineLoop(std::move(parts)));
}

EngineLoop::EngineLoop(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
EngineLoop::~EngineLoop() = default;

EngineClient& EngineLoop::client() { return parts_->client; }

std::string EngineLoop::endpoint() const { return parts_->router.last_endpoint(); }

Status EngineLoop::join(member::MemberLink link, wire::MemberReady ready,
                        std::function<void(const member::Event&)> on_event) {
  TRIREME_RETURN_IF_ERROR(parts_->poller.add(link.socket(), kMemberToken));
  parts_->on_event = std::move(on_event);
  parts_->link.emplace(std::move(link));
  parts_->ready_with_engines = ready;
  ready.http_address.clear();
  parts_->link->set_ready(std::move(ready));
  parts_->look_again();
  return {};
}

void EngineLoop::set_draining() {
  parts_->client.drain();
  if (parts_->link) parts_->link->set_draining();
  parts_->look_again();
}

void EngineLoop::fail_all(const Status& status) {
  parts_->client.fail_all(status);
  parts_->look_again();  // The engines are told to stop.
}

void EngineLoop::leave(const std::string& reason) {
  if (parts_->link) parts_->link->leave(reason);
}

}  // namespace trireme::api
