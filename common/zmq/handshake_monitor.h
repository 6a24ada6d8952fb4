// HandshakeMonitor: counts the peers of a bound socket that hung up, or were hung up on, before
// their handshake was done: another protocol, garbage, a wrong key, silence, a port scan. And how
// many connections ended at all.
//
// libzmq drops such peers by itself and tells nobody but a monitor. Its events name a connection
// when it is accepted and when it ends, not when its handshake succeeds: that is taken for the
// youngest of those in progress. So a peer whose handshake overlaps another's may be counted when
// the other one ends instead: later, never twice.
//
// Threads: one of its own, asleep but for connections; failed_total() is for any. Lifetime: within
// its socket's; made and destroyed by the socket's owner. Bound: one number per connection in
// progress; events wait unbounded, because a full monitor would stop libzmq's I/O thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/status.h"

namespace trireme::zmq {

class HandshakeMonitor {
 public:
  // `socket`: libzmq's, before it is bound. `endpoint`: for the log.
  [[nodiscard]] static StatusOr<std::unique_ptr<HandshakeMonitor>> start(
      void* context, void* socket, const std::string& endpoint);
  HandshakeMonitor(const HandshakeMonitor&) = delete;
  HandshakeMonitor& operator=(const HandshakeMonitor&) = delete;
  ~HandshakeMonitor();

  [[nodiscard]] uint64_t failed_total() const { return failed_total_.load(); }
  // Connections that ended, of those peers and of all others.
  [[nodiscard]] uint64_t ended_total() const { return ended_total_.load(); }

 private:
  struct Event;
  HandshakeMonitor(void* watched, void* events, std::string endpoint);
  void run() noexcept;
  void take(const Event& event);
  void count_failure();

  void* watched_;
  void* events_;  // The thread's own once it runs.
  std::string endpoint_;
  std::vector<int> in_progress_;  // File descriptors, the youngest last.
  Instant quiet_until_;           // In the log; all are counted.
  std::atomic<uint64_t> failed_total_{0};
  std::atomic<uint64_t> ended_total_{0};
  std::jthread thread_;
};

}  // namespace trireme::zmq
