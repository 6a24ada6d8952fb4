// Dealer: the connecting end of a link to one Router.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "common/zmq/socket.h"

namespace trireme::zmq {

class Dealer : public Socket {
 public:
  // `identity`: 1 to 255 bytes, not beginning with a zero byte, unique among the Router's peers. A
  // newcomer with an identity in use takes it over.
  [[nodiscard]] static StatusOr<Dealer> create(const Context& context, std::string_view identity,
                                               const SocketOptions& options = {});

  [[nodiscard]] SendResult try_send(Bytes frame) { return send_frame(frame, true); }
  [[nodiscard]] SendResult try_send(std::span<const Bytes> frames) { return send_frames(frames); }
  // It stays with the caller too, who does not change it any more.
  [[nodiscard]] SendResult try_send(const SharedFrame& frame) { return send_shared(frame); }
  // Without a copy where that pays; `frame` is empty after kSent and untouched otherwise.
  [[nodiscard]] SendResult try_send_owned(std::vector<std::byte>& frame) {
    return send_owned(frame);
  }

 private:
  using Socket::Socket;
};

}  // namespace trireme::zmq
