// Router: the binding end of links to many Dealers, told apart by identity.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "common/zmq/socket.h"

namespace trireme::zmq {

class Router : public Socket {
 public:
  [[nodiscard]] static StatusOr<Router> create(const Context& context,
                                               const SocketOptions& options = {});

  // A full queue of one peer does not hold up the others.
  [[nodiscard]] SendResult try_send(std::string_view peer, Bytes frame);
  [[nodiscard]] SendResult try_send(std::string_view peer, std::span<const Bytes> frames);
  [[nodiscard]] SendResult try_send_owned(std::string_view peer, std::vector<std::byte>& frame);

 private:
  using Socket::Socket;
};

}  // namespace trireme::zmq
