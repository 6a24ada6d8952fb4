#include "common/zmq/monitor.h"

#include <zmq.h>

#include <cerrno>
#include <string>

namespace trireme::zmq {

StatusOr<void*> start_monitor(void* context, void* watched, int events) {
  void* const receiver = ::zmq_socket(context, ZMQ_PAIR);
  if (receiver == nullptr) {
    return error(StatusCode::kResourceExhausted, "zmq_socket: %s", ::zmq_strerror(errno));
  }
  const int unbounded = 0;
  ::zmq_setsockopt(receiver, ZMQ_RCVHWM, &unbounded, sizeof(unbounded));
  const std::string channel =
      absl::StrFormat("inproc://monitor-%x", reinterpret_cast<uintptr_t>(watched));
  if (::zmq_socket_monitor(watched, channel.c_str(), events) != 0 ||
      ::zmq_connect(receiver, channel.c_str()) != 0) {
    const int reason = errno;
    stop_monitor(watched);
    ::zmq_close(receiver);
    return error(StatusCode::kResourceExhausted, "monitor: %s", ::zmq_strerror(reason));
  }
  return receiver;
}

void stop_monitor(void* watched) { ::zmq_socket_monitor(watched, nullptr, 0); }

}  // namespace trireme::zmq
