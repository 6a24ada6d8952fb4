// StopSignal: SIGTERM and SIGINT as a file descriptor and a level, without code in signal handlers.
//
// The first signal asks to stop (drain), the second forces. install() blocks both signals in the
// calling thread (threads started later inherit that), so call it first in main().
// Threads: fd() may be polled by one thread; level() by any.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/status.h"

namespace trireme {

class StopSignal {
 public:
  enum class Level : uint8_t { kRun = 0, kDrain = 1, kForce = 2 };

  [[nodiscard]] static StatusOr<StopSignal> install();
  StopSignal(StopSignal&& other) noexcept;
  StopSignal& operator=(StopSignal&&) = delete;
  ~StopSignal();

  // Readable while signals are waiting; poll it, then call update().
  [[nodiscard]] int fd() const { return fd_; }
  // Takes in what has arrived and returns the level. Never blocks.
  Level update();
  [[nodiscard]] Level level() const { return level_.load(std::memory_order_acquire); }
  // As if a signal had come: used when the parent asks over the control channel.
  void raise();

 private:
  explicit StopSignal(int fd) : fd_(fd) {}
  int fd_;
  std::atomic<Level> level_{Level::kRun};
};

}  // namespace trireme
