// Socket: what Router and Dealer have in common. Use those.
//
// Bounds: each peer's queue holds at most `send_messages_max` + `receive_messages_max` messages of
// at most `frame_bytes_max` a frame (who sends a larger one is disconnected). try_send() never
// blocks and never drops: kFull leaves the message with the caller.
// Order: kept per peer. Loss: what is in flight when a connection breaks is lost; protocols above
// number and acknowledge (or use remote_queue.h).
// Life signs: ZeroMQ heartbeats, answered by the I/O thread, so a busy peer is not a dead one. A
// silent connection is closed after `heartbeat_timeout` and made again.
// Threads: one owner at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "common/zmq/context.h"
#include "common/zmq/disconnect_monitor.h"
#include "common/zmq/handshake_monitor.h"
#include "common/zmq/message.h"
#include "common/zmq/shared_frame.h"

namespace trireme::zmq {

struct SocketOptions {
  int send_messages_max = 1000;
  int receive_messages_max = 1000;
  int64_t frame_bytes_max = int64_t{64} << 20;
  Duration heartbeat_interval = std::chrono::seconds(1);
  Duration heartbeat_timeout = std::chrono::seconds(5);
  Duration handshake_timeout = std::chrono::seconds(5);
  Duration reconnect_min = std::chrono::milliseconds(20);
  Duration reconnect_max = std::chrono::seconds(1);
  // How long a closed socket goes on sending what it took.
  Duration linger = std::chrono::seconds(1);
  // false: messages queue while there is no connection yet, so processes may start in any order,
  // and what is queued goes to the peer's next incarnation. true: kFull until there is one.
  bool only_when_connected = false;
  // Never leaves this machine: no CURVE even with a cluster key, other addresses are refused.
  bool loopback_only = false;
  // Has take_disconnected() tell when a connection of connect() broke.
  bool tells_disconnects = false;
  // A listening TCP socket of the caller's: bind() takes it over in place of a new one.
  int listen_fd = -1;
};

enum class SendResult : uint8_t {
  kSent,
  kFull,    // The peer's queue is full (Dealer: or there is no connection, see above).
  kNoPeer,  // Router: nobody of this identity is connected.
};

class Socket {
 public:
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  // "tcp://127.0.0.1:0" takes a free port; last_endpoint() then says which. IPv6: "tcp://[::1]:0".
  [[nodiscard]] Status bind(const std::string& endpoint);
  // Returns before there is a connection, and keeps trying for ever.
  [[nodiscard]] Status connect(const std::string& endpoint);
  [[nodiscard]] std::string last_endpoint() const;

  // True when the connection has broken since the last call, and with it perhaps what was in flight
  // either way. A message may come first that the next connection brought.
  [[nodiscard]] bool take_disconnected() {
    return disconnects_ != nullptr && disconnects_->take_disconnected();
  }

  // The next message, or false when there is none. Never blocks.
  bool try_receive(Message& message);
  // Messages of more than kFramesMax frames, thrown away.
  [[nodiscard]] uint64_t dropped_total() const { return dropped_total_; }
  // A bound socket's peers that did not get through the handshake.
  [[nodiscard]] uint64_t handshakes_failed_total() const {
    return handshakes_ ? handshakes_->failed_total() : 0;
  }
  // Connections of peers to a bound socket that ended: who asks try_send() about each peer when
  // this has grown, and once more a moment later, knows who is gone.
  [[nodiscard]] uint64_t connections_ended_total() const {
    return handshakes_ ? handshakes_->ended_total() : 0;
  }

 protected:
  Socket(void* handle, const Context& context, const SocketOptions& options, bool is_router);
  // A null handle with an error.
  [[nodiscard]] static StatusOr<void*> open(const Context& context, int type,
                                            const SocketOptions& options);
  void set(int option, int value);
  void set(int option, std::string_view value);
  SendResult send_frame(Bytes frame, bool is_last);
  SendResult send_frames(std::span<const Bytes> frames);
  SendResult send_owned(std::vector<std::byte>& frame);
  SendResult send_shared(const SharedFrame& frame);

 private:
  friend class Poller;
  [[nodiscard]] int fd() const;
  // May readiness have changed without fd() saying so? (see poller.h)
  [[nodiscard]] bool must_ask() const { return must_ask_; }
  struct Readiness {
    bool readable;
    bool writable;
  };
  [[nodiscard]] Readiness ask_readiness();
  [[nodiscard]] Status secure(const std::string& endpoint, bool is_server);
  bool receive_part(Message::Part& part, bool& has_more);

  void* handle_;
  std::unique_ptr<HandshakeMonitor> handshakes_;    // Goes before the handle does.
  std::unique_ptr<DisconnectMonitor> disconnects_;  // As well.
  const Context* context_;
  bool loopback_only_;
  bool tells_disconnects_;
  bool is_router_;
  bool must_ask_ = true;
  uint64_t dropped_total_ = 0;
};

}  // namespace trireme::zmq
