#include "common/zmq/disconnect_monitor.h"

#include <zmq.h>

#include "common/zmq/monitor.h"

namespace trireme::zmq {

StatusOr<std::unique_ptr<DisconnectMonitor>> DisconnectMonitor::start(void* context, void* socket) {
  TRIREME_ASSIGN_OR_RETURN(void* const events,
                           start_monitor(context, socket, ZMQ_EVENT_DISCONNECTED));
  return std::unique_ptr<DisconnectMonitor>(new DisconnectMonitor(socket, events));
}

DisconnectMonitor::~DisconnectMonitor() {
  stop_monitor(watched_);
  ::zmq_close(events_);
}

bool DisconnectMonitor::take_disconnected() {
  bool has_broken = false;
  // Each event has two frames, and nothing but ZMQ_EVENT_DISCONNECTED is asked for.
  while (::zmq_recv(events_, nullptr, 0, ZMQ_DONTWAIT) >= 0) has_broken = true;
  return has_broken;
}

}  // namespace trireme::zmq
