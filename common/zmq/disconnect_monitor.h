// DisconnectMonitor: tells the owner of a connecting socket that its connection broke.
//
// libzmq makes a broken connection anew and says nothing, but what was in flight is lost (see
// socket.h). A protocol that must notice asks here. An event can come after messages of the new
// connection: number those.
// Threads: the socket's owner. Bounds: events wait unbounded, one a reconnect.
#pragma once

#include <memory>
#include <string>

#include "common/status.h"

namespace trireme::zmq {

class DisconnectMonitor {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<DisconnectMonitor>> start(void* context,
                                                                          void* socket);
  DisconnectMonitor(const DisconnectMonitor&) = delete;
  DisconnectMonitor& operator=(const DisconnectMonitor&) = delete;
  ~DisconnectMonitor();

  // True when a connection has broken since the last call. Never blocks.
  [[nodiscard]] bool take_disconnected();

 private:
  DisconnectMonitor(void* watched, void* events) : watched_(watched), events_(events) {}

  void* watched_;
  void* events_;
};

}  // namespace trireme::zmq
