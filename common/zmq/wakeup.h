// Wakeup: lets any thread interrupt another one's wait in a Poller.
#pragma once

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::zmq {

class Wakeup {
 public:
  [[nodiscard]] static StatusOr<Wakeup> create();

  // Any thread; several calls before a drain() count as one.
  void notify() const noexcept;
  // The waiting thread, once fd() was readable and before it looks at what was announced.
  void drain() const noexcept;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit Wakeup(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace trireme::zmq
