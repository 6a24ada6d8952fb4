// EngineLoop: the sockets of EngineClient inside the http thread's io_context: the ROUTER that
// engines connect to, and the link to the coordinator.
//
// One thread does HTTP and ZeroMQ: nothing is handed over between threads, and a request costs no
// wakeup of its own. A ZeroMQ socket announces messages by an edge that a send may take in, so
// every send asks for one more look at the socket in this turn of the loop.
//
// Threads: the io_context's. Bounds: the ROUTER's queues (SocketOptions), messages a turn.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api_server/engine_client/engine_client.h"
#include "common/status.h"
#include "proto/member/member_event.h"

namespace boost::asio {
class io_context;
}
namespace trireme::zmq {
class Context;
}
namespace trireme::member {
class MemberLink;
}

namespace trireme::api {

class EngineLoop {
 public:
  // Binds to tcp://<host>:0.
  [[nodiscard]] static StatusOr<std::unique_ptr<EngineLoop>> open(
      boost::asio::io_context& context, zmq::Context& zmq, const std::string& host,
      const EngineClientOptions& options);
  ~EngineLoop();

  [[nodiscard]] EngineClient& client();
  // "tcp://127.0.0.1:41234"
  [[nodiscard]] std::string endpoint() const;

  // From now on the view and the load board come from the coordinator, and engines learn from it
  // where we are. `on_event` gets every event after the client has had it.
  [[nodiscard]] Status join(member::MemberLink link, wire::MemberReady ready,
                            std::function<void(const member::Event&)> on_event);
  void set_draining();
  // Every open request ends with `status`.
  void fail_all(const Status& status);
  void leave(const std::string& reason);

 private:
  struct Parts;
  explicit EngineLoop(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace trireme::api
