// Poller: one thread's wait for sockets and file descriptors (eventfd, pidfd, timerfd, …).
//
//   while (running) {
//     for (const Ready& ready : poller.wait(deadline)) switch (ready.token) { … }
//   }
//
// A socket is reported while it has messages, a descriptor while it is readable: level-triggered
// both. Underneath, a socket's fd is edge-triggered: it announces changes, and libzmq may take in
// an announcement during any send. So a wait asks libzmq (a system call) only for sockets that sent
// or received since their last empty try_receive(); draining a socket before waiting makes waits
// cheap and costs no system call per message. Threads: one owner, the owner of the sockets too.
// Lifetime: sockets are neither moved nor destroyed while they are in here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "common/unique_fd.h"
#include "common/zmq/socket.h"

namespace trireme::zmq {

struct Ready {
  uint64_t token;
  bool readable;
  bool writable;  // Only where asked for with want_writable().
};

class Poller {
 public:
  [[nodiscard]] static StatusOr<Poller> create();

  // `token` comes back in Ready; it names one entry, whatever its kind.
  [[nodiscard]] Status add(Socket& socket, uint64_t token);
  [[nodiscard]] Status add_fd(int fd, uint64_t token);
  void remove(uint64_t token);
  // After kFull from a Dealer: report when it takes messages again. For a Router, retry on a timer:
  // its fullness belongs to single peers, which libzmq does not report.
  void want_writable(uint64_t token, bool wanted);

  // What is ready, at the latest at `deadline` (then perhaps nothing). Valid until the next call.
  [[nodiscard]] std::span<const Ready> wait(Deadline deadline);

  // For an outer loop that this one is nested in: readable when something was announced. It cannot
  // show what a send took in (see above), so after any send call wait() before sleeping outside.
  [[nodiscard]] int fd() const { return epoll_.get(); }

 private:
  struct Entry {
    uint64_t token;
    Socket* socket;  // Null for a plain descriptor.
    int fd;
    bool wants_writable;
  };
  explicit Poller(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  [[nodiscard]] Status add_entry(Entry entry);
  [[nodiscard]] Entry* find(uint64_t token);
  void collect(Entry& entry, bool was_announced);

  UniqueFd epoll_;
  std::vector<Entry> entries_;
  std::vector<Ready> ready_;
};

}  // namespace trireme::zmq
