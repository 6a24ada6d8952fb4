#include "common/zmq/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "common/check.h"
#include "common/zmq/dealer.h"
#include "common/zmq/link_safety.h"
#include "common/zmq/router.h"
#include "common/zmq/zap_handler.h"

namespace trireme::zmq {
namespace {

// Below this size libzmq's own copy costs less than an allocation and a callback.
constexpr std::size_t kZeroCopyBytesMin = 8 * 1024;
// What an encrypted frame is longer by: libzmq compares what comes over the wire.
constexpr int64_t kCurveBytes = 33;
constexpr int kBacklog = 1024;  // Every engine of a large cluster reconnects at once.

zmq_msg_t* raw(std::byte* part) { return reinterpret_cast<zmq_msg_t*>(part); }

int milliseconds(Duration duration) {
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
}

// libzmq takes one family per socket: an IPv4 address must not become an IPv6 socket (its endpoint
// would print as ::ffff:127.0.0.1), and a name must lead to where its host listens.
bool wants_ipv6(std::string_view endpoint) {
  const std::string host(host_of(endpoint));
  if (host == "*" || host.find(':') != host.npos) return true;
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return false;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  const bool has_v4 = ::getaddrinfo(host.c_str(), nullptr, &hints, &found) == 0;
  if (found != nullptr) ::freeaddrinfo(found);
  return !has_v4;
}

Status endpoint_error(const char* verb, const std::string& endpoint) {
  return error(StatusCode::kInvalidArgument, "%s %s: %s", verb, endpoint, ::zmq_strerror(errno));
}

SendResult result_of_errno() {
  if (errno == EAGAIN) return SendResult::kFull;
  TRIREME_CHECK(errno == EHOSTUNREACH || errno == ETERM, "no other error of a sound socket");
  return SendResult::kNoPeer;
}

void delete_buffer(void*, void* buffer) { delete static_cast<std::vector<std::byte>*>(buffer); }

}  // namespace

Message::Message() {
  static_assert(sizeof(Part) == sizeof(zmq_msg_t) && alignof(Part) >= alignof(zmq_msg_t));
  for (Part& part : parts_) ::zmq_msg_init(raw(part.raw));
}

Message::~Message() {
  for (Part& part : parts_) ::zmq_msg_close(raw(part.raw));
}

std::string_view Message::peer() const {
  auto* const part = raw(const_cast<std::byte*>(parts_[kFramesMax].raw));
  return {static_cast<const char*>(::zmq_msg_data(part)), ::zmq_msg_size(part)};
}

Bytes Message::frame(std::size_t index) const {
  TRIREME_CHECK(index < frame_count_, "no such frame");
  auto* const part = raw(const_cast<std::byte*>(parts_[index].raw));
  return {static_cast<const std::byte*>(::zmq_msg_data(part)), ::zmq_msg_size(part)};
}

void Message::clear() {
  for (std::size_t i = 0; i < frame_count_; ++i) {
    ::zmq_msg_close(raw(parts_[i].raw));
    ::zmq_msg_init(raw(parts_[i].raw));
  }
  frame_count_ = 0;
}

SharedFrame::SharedFrame() {
  static_assert(sizeof(raw_) == sizeof(zmq_msg_t));
  ::zmq_msg_init(raw(raw_));
}

SharedFrame::~SharedFrame() { ::zmq_msg_close(raw(raw_)); }

void SharedFrame::clear() {
  ::zmq_msg_close(raw(raw_));
  ::zmq_msg_init(raw(raw_));
}

std::span<std::byte> SharedFrame::renew(std::size_t size) {
  ::zmq_msg_close(raw(raw_));
  TRIREME_CHECK(::zmq_msg_init_size(raw(raw_), size) == 0, "there is memory for a frame");
  return {static_cast<std::byte*>(::zmq_msg_data(raw(raw_))), size};
}

StatusOr<void*> Socket::open(const Context& context, int type, const SocketOptions& options) {
  void* const handle = ::zmq_socket(context.handle(), type);
  if (handle == nullptr) {
    return error(StatusCode::kResourceExhausted, "zmq_socket: %s", ::zmq_strerror(errno));
  }
  const std::pair<int, int> settings[] = {
      {ZMQ_SNDHWM, options.send_messages_max},
      {ZMQ_RCVHWM, options.receive_messages_max},
      {ZMQ_HEARTBEAT_IVL, milliseconds(options.heartbeat_interval)},
      {ZMQ_HEARTBEAT_TIMEOUT, milliseconds(options.heartbeat_timeout)},
      {ZMQ_HEARTBEAT_TTL, milliseconds(options.heartbeat_timeout)},
      {ZMQ_HANDSHAKE_IVL, milliseconds(options.handshake_timeout)},
      {ZMQ_RECONNECT_IVL, milliseconds(options.reconnect_min)},
      {ZMQ_RECONNECT_IVL_MAX, milliseconds(options.reconnect_max)},
      {ZMQ_LINGER, milliseconds(options.linger)},
      {ZMQ_IMMEDIATE, options.only_when_connected ? 1 : 0},
      {ZMQ_BACKLOG, kBacklog},
  };
  for (const auto& [option, value] : settings) {
    TRIREME_CHECK(::zmq_setsockopt(handle, option, &value, sizeof(value)) == 0, "a valid option");
  }
  const int64_t wire_bytes_max = options.frame_bytes_max + kCurveBytes;
  ::zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &wire_bytes_max, sizeof(wire_bytes_max));
  if (options.listen_fd >= 0) {
    ::zmq_setsockopt(handle, ZMQ_USE_FD, &options.listen_fd, sizeof(options.listen_fd));
  }
  return handle;
}

Socket::Socket(void* handle, const Context& context, const SocketOptions& options, bool is_router)
    : handle_(handle),
      context_(&context),
      loopback_only_(options.loopback_only),
      tells_disconnects_(options.tells_disconnects),
      is_router_(is_router) {}

Socket::Socket(Socket&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      handshakes_(std::move(other.handshakes_)),
      disconnects_(std::move(other.disconnects_)),
      context_(other.context_),
      loopback_only_(other.loopback_only_),
      tells_disconnects_(other.tells_disconnects_),
      is_router_(other.is_router_),
      dropped_total_(other.dropped_total_) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this == &other) return *this;
  handshakes_ = std::move(other.handshakes_);
  disconnects_ = std::move(other.disconnects_);
  if (handle_ != nullptr) ::zmq_close(handle_);
  handle_ = std::exchange(other.handle_, nullptr);
  context_ = other.context_;
  loopback_only_ = other.loopback_only_;
  tells_disconnects_ = other.tells_disconnects_;
  is_router_ = other.is_router_;
  must_ask_ = true;
  dropped_total_ = other.dropped_total_;
  return *this;
}

Socket::~Socket() {
  handshakes_.reset();
  disconnects_.reset();
  if (handle_ != nullptr) ::zmq_close(handle_);
}

void Socket::set(int option, int value) {
  TRIREME_CHECK(::zmq_setsockopt(handle_, option, &value, sizeof(value)) == 0, "a valid option");
}

void Socket::set(int option, std::string_view value) {
  TRIREME_CHECK(::zmq_setsockopt(handle_, option, value.data(), value.size()) == 0,
                "a valid option");
}

Status Socket::secure(const std::string& endpoint, bool is_server) {
  const bool has_key = context_->options().key.has_value() && !loopback_only_;
  if (loopback_only_ && !is_loopback(endpoint)) {
    return error(StatusCode::kInvalidArgument, "%s is not on this machine, and this link must be",
                 endpoint);
  }
  const auto check = is_server ? check_bind_is_safe : check_connect_is_safe;
  TRIREME_RETURN_IF_ERROR(check(endpoint, has_key, context_->options().insecure));
  if (!endpoint.starts_with("tcp://")) return absl::OkStatus();
  set(ZMQ_IPV6, wants_ipv6(endpoint) ? 1 : 0);
  if (!has_key) return absl::OkStatus();
  const ClusterKey& key = *context_->options().key;
  set(ZMQ_CURVE_SERVER, is_server ? 1 : 0);
  set(ZMQ_CURVE_SECRETKEY, key.secret_z85());
  if (is_server) {
    // libzmq lets everybody in when nobody answers for the domain; the context's handler does.
    set(ZMQ_ZAP_DOMAIN, kZapDomain);
  } else {
    set(ZMQ_CURVE_PUBLICKEY, key.public_z85());
    set(ZMQ_CURVE_SERVERKEY, key.public_z85());
  }
  return absl::OkStatus();
}

Status Socket::bind(const std::string& endpoint) {
  TRIREME_RETURN_IF_ERROR(secure(endpoint, true));
  if (handshakes_ == nullptr) {
    TRIREME_ASSIGN_OR_RETURN(handshakes_,
                             HandshakeMonitor::start(context_->handle(), handle_, endpoint));
  }
  return ::zmq_bind(handle_, endpoint.c_str()) == 0 ? absl::OkStatus()
                                                    : endpoint_error("listen at", endpoint);
}

Status Socket::connect(const std::string& endpoint) {
  TRIREME_RETURN_IF_ERROR(secure(endpoint, false));
  if (tells_disconnects_ && disconnects_ == nullptr) {
    TRIREME_ASSIGN_OR_RETURN(disconnects_, DisconnectMonitor::start(context_->handle(), handle_));
  }
  return ::zmq_connect(handle_, endpoint.c_str()) == 0 ? absl::OkStatus()
                                                       : endpoint_error("connect to", endpoint);
}

std::string Socket::last_endpoint() const {
  char text[512];
  std::size_t size = sizeof(text);
  TRIREME_CHECK(::zmq_getsockopt(handle_, ZMQ_LAST_ENDPOINT, text, &size) == 0, "it fits");
  return text;
}

int Socket::fd() const {
  int fd = -1;
  std::size_t size = sizeof(fd);
  TRIREME_CHECK(::zmq_getsockopt(handle_, ZMQ_FD, &fd, &size) == 0, "a sound socket has one");
  return fd;
}

Socket::Readiness Socket::ask_readiness() {
  int events = 0;
  std::size_t size = sizeof(events);
  // After a shutdown of the context: report readable, the owner sees its stop flag.
  if (::zmq_getsockopt(handle_, ZMQ_EVENTS, &events, &size) != 0) return {true, false};
  must_ask_ = (events & ZMQ_POLLIN) != 0;
  return {(events & ZMQ_POLLIN) != 0, (events & ZMQ_POLLOUT) != 0};
}

bool Socket::receive_part(Message::Part& part, bool& has_more) {
  while (::zmq_msg_recv(raw(part.raw), handle_, ZMQ_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    TRIREME_CHECK(errno == EAGAIN || errno == ETERM, "no other error of a sound socket");
    return false;
  }
  has_more = ::zmq_msg_more(raw(part.raw)) != 0;
  return true;
}

bool Socket::try_receive(Message& message) {
  while (true) {
    bool has_more = true;
    message.frame_count_ = 0;
    if (is_router_ && !receive_part(message.parts_[kFramesMax], has_more)) break;
    std::size_t frames = 0;
    while (has_more) {
      // Beyond the bound the last part is overwritten: the message is thrown away below.
      if (!receive_part(message.parts_[std::min(frames, kFramesMax - 1)], has_more)) break;
      ++frames;
    }
    if (frames == 0 && !is_router_) break;
    must_ask_ = true;
    if (frames > 0 && frames <= kFramesMax) {
      message.frame_count_ = frames;
      return true;
    }
    ++dropped_total_;
  }
  must_ask_ = false;  // libzmq has just taken in all that fd() stood for.
  return false;
}

SendResult Socket::send_frame(Bytes frame, bool is_last) {
  must_ask_ = true;
  const int flags = ZMQ_DONTWAIT | (is_last ? 0 : ZMQ_SNDMORE);
  while (::zmq_send(handle_, frame.data(), frame.size(), flags) < 0) {
    if (errno != EINTR) return result_of_errno();
  }
  return SendResult::kSent;
}

SendResult Socket::send_frames(std::span<const Bytes> frames) {
  TRIREME_CHECK(!frames.empty() && frames.size() <= kFramesMax, "1 to kFramesMax frames");
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto result = send_frame(frames[i], i + 1 == frames.size());
    // In mid-message too, libzmq has then rolled back the frames before.
    if (result != SendResult::kSent) return result;
  }
  return SendResult::kSent;
}

SendResult Socket::send_owned(std::vector<std::byte>& frame) {
  if (frame.size() < kZeroCopyBytesMin) {
    const auto result = send_frame(frame, true);
    if (result == SendResult::kSent) frame.clear();
    return result;
  }
  must_ask_ = true;
  auto owner = std::make_unique<std::vector<std::byte>>(std::move(frame));
  zmq_msg_t message;
  ::zmq_msg_init_data(&message, owner->data(), owner->size(), delete_buffer, owner.get());
  int rc = 0;
  do {
    rc = ::zmq_msg_send(&message, handle_, ZMQ_DONTWAIT);
  } while (rc < 0 && errno == EINTR);
  std::vector<std::byte>* const buffer = owner.release();  // libzmq's from here on.
  if (rc >= 0) return frame.clear(), SendResult::kSent;
  const auto result = result_of_errno();
  frame = std::move(*buffer);
  ::zmq_msg_close(&message);  // Deletes the emptied owner.
  return result;
}

SendResult Socket::send_shared(const SharedFrame& frame) {
  must_ask_ = true;
  zmq_msg_t message;
  ::zmq_msg_init(&message);
  ::zmq_msg_copy(&message, raw(const_cast<std::byte*>(frame.raw_)));
  int rc = 0;
  do {
    rc = ::zmq_msg_send(&message, handle_, ZMQ_DONTWAIT);
  } while (rc < 0 && errno == EINTR);
  if (rc >= 0) return SendResult::kSent;
  const auto result = result_of_errno();
  ::zmq_msg_close(&message);
  return result;
}

StatusOr<Dealer> Dealer::create(const Context& context, std::string_view identity,
                                const SocketOptions& options) {
  if (identity.empty() || identity.size() > 255 || identity[0] == '\0') {
    return error(StatusCode::kInvalidArgument,
                 "an identity has 1 to 255 bytes and does not begin with a zero byte; this one has "
                 "%d bytes",
                 identity.size());
  }
  TRIREME_ASSIGN_OR_RETURN(void* handle, open(context, ZMQ_DEALER, options));
  Dealer dealer(handle, context, options, false);
  dealer.set(ZMQ_ROUTING_ID, identity);
  return dealer;
}

StatusOr<Router> Router::create(const Context& context, const SocketOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(void* handle, open(context, ZMQ_ROUTER, options));
  Router router(handle, context, options, true);
  router.set(ZMQ_ROUTER_MANDATORY, 1);  // Otherwise a full or unknown peer loses messages silently.
  router.set(ZMQ_ROUTER_HANDOVER, 1);
  return router;
}

SendResult Router::try_send(std::string_view peer, Bytes frame) {
  const auto result = send_frame(bytes_of(peer), false);
  return result == SendResult::kSent ? send_frame(frame, true) : result;
}

SendResult Router::try_send(std::string_view peer, std::span<const Bytes> frames) {
  const auto result = send_frame(bytes_of(peer), false);
  return result == SendResult::kSent ? send_frames(frames) : result;
}

SendResult Router::try_send_owned(std::string_view peer, std::vector<std::byte>& frame) {
  const auto result = send_frame(bytes_of(peer), false);
  return result == SendResult::kSent ? send_owned(frame) : result;
}

}  // namespace trireme::zmq
