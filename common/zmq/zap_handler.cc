#include "common/zmq/zap_handler.h"

#include <pthread.h>
#include <zmq.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log.h"

namespace trireme::zmq {
namespace {

constexpr Duration kLogInterval = std::chrono::seconds(1);

// Frames of a request, in order.
enum Part : std::size_t { kVersion, kId, kDomain, kAddress, kIdentity, kMechanism, kCredentials };

// False when the context shuts down.
bool receive_request(void* socket, std::vector<std::string>& frames) {
  frames.clear();
  int more = 1;
  while (more != 0) {
    zmq_msg_t frame;
    ::zmq_msg_init(&frame);
    if (::zmq_msg_recv(&frame, socket, 0) < 0) {
      ::zmq_msg_close(&frame);
      if (errno == EINTR) continue;
      return false;
    }
    frames.emplace_back(static_cast<const char*>(::zmq_msg_data(&frame)), ::zmq_msg_size(&frame));
    more = ::zmq_msg_more(&frame);
    ::zmq_msg_close(&frame);
  }
  return true;
}

void send_reply(void* socket, const std::string& id, bool is_allowed) {
  const std::string frames[] = {"1.0", id, is_allowed ? "200" : "400", "", "", ""};
  for (const std::string& frame : frames) {
    const int flags = &frame == std::end(frames) - 1 ? 0 : ZMQ_SNDMORE;
    ::zmq_send(socket, frame.data(), frame.size(), flags);
  }
}

}  // namespace

StatusOr<std::unique_ptr<ZapHandler>> ZapHandler::start(void* context, const ClusterKey& key) {
  void* const socket = ::zmq_socket(context, ZMQ_REP);
  if (socket == nullptr || ::zmq_bind(socket, "inproc://zeromq.zap.01") != 0) {
    const Status status =
        error(StatusCode::kInternal, "bind the ZAP handler: %s", ::zmq_strerror(errno));
    if (socket != nullptr) ::zmq_close(socket);
    return status;
  }
  uint8_t raw[32];
  ::zmq_z85_decode(raw, key.public_z85().c_str());
  std::unique_ptr<ZapHandler> handler(
      new ZapHandler(socket, std::string(reinterpret_cast<const char*>(raw), sizeof(raw))));
  handler->thread_ = std::jthread([self = handler.get()] { self->run(); });
  return handler;
}

ZapHandler::ZapHandler(void* socket, std::string public_key)
    : socket_(socket), public_key_(std::move(public_key)) {}

bool ZapHandler::is_allowed(const std::string& mechanism, const std::string& key) const {
  return mechanism == "CURVE" && key == public_key_;
}

void ZapHandler::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "zap");
  std::vector<std::string> frames;
  Instant quiet_until{};
  while (receive_request(socket_, frames)) {
    const bool is_whole = frames.size() == kCredentials + 1;
    const bool is_known = is_whole && is_allowed(frames[kMechanism], frames[kCredentials]);
    if (!is_known) {
      const uint64_t refused = refused_total_.fetch_add(1) + 1;
      if (now() >= quiet_until) {
        log::warning("peer_refused", {{"address", is_whole ? frames[kAddress] : std::string()},
                                      {"reason", "not the cluster's key"},
                                      {"refused_total", refused}});
        quiet_until = now() + kLogInterval;
      }
    }
    send_reply(socket_, frames.size() > kId ? frames[kId] : std::string(), is_known);
  }
  ::zmq_close(socket_);
}

}  // namespace trireme::zmq
