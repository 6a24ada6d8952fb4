// What libzmq's monitor of a socket tells, as a socket of its own: the seam of HandshakeMonitor and
// DisconnectMonitor.
#pragma once

#include "common/status.h"

namespace trireme::zmq {

// A socket that receives `events` (a mask of ZMQ_EVENT_*) of `watched`, two frames each. Unbounded,
// because a full monitor would stop libzmq's I/O thread. The caller ends it by stop_monitor(), then
// closes what this gave. One monitor for a socket.
[[nodiscard]] StatusOr<void*> start_monitor(void* context, void* watched, int events);

// The last event is then ZMQ_EVENT_MONITOR_STOPPED, for who asked for it.
void stop_monitor(void* watched);

}  // namespace trireme::zmq
