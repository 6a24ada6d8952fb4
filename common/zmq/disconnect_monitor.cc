#include "common/zmq/disconnect_monitor.h"

#include <zmq.h>

#include <cerrno>

namespace trireme::zmq {

StatusOr<std::unique_ptr<DisconnectMonitor>> DisconnectMonitor::start(void* context, void* socket) {
  void* const events = ::zmq_socket(context, ZMQ_PAIR);
  if (events == nullptr) {
    return error(StatusCode::kResourceExhausted, "zmq_socket: %s", ::zmq_strerror(errno));
  }
  std::unique_ptr<DisconnectMonitor> monitor(new DisconnectMonitor(socket, events));
  const int unbounded = 0;  // A full monitor would stop libzmq's I/O thread.
  ::zmq_setsockopt(events, ZMQ_RCVHWM, &unbounded, sizeof(unbounded));
  const std::string channel =
      absl::StrFormat("inproc://disconnects-%x", reinterpret_cast<uintptr_t>(socket));
  if (::zmq_socket_monitor(socket, channel.c_str(), ZMQ_EVENT_DISCONNECTED) != 0 ||
      ::zmq_connect(events, channel.c_str()) != 0) {
    return error(StatusCode::kResourceExhausted, "monitor: %s", ::zmq_strerror(errno));
  }
  return monitor;
}

DisconnectMonitor::~DisconnectMonitor() {
  ::zmq_socket_monitor(watched_, nullptr, 0);
  ::zmq_close(events_);
}

bool DisconnectMonitor::take_disconnected() {
  bool has_broken = false;
  // Each event has two frames, and nothing but ZMQ_EVENT_DISCONNECTED is asked for.
  while (::zmq_recv(events_, nullptr, 0, ZMQ_DONTWAIT) >= 0) has_broken = true;
  return has_broken;
}

}  // namespace trireme::zmq
