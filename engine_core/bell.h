// Bell: wakes one thread of this process that waits on file descriptors, at no cost (a load and a
// compare) while that thread is awake.
//
//   waiter:  about_to_wait(); look at every queue once more; poll(fd(), ...); woke_up();
//   ringer:  put into a queue; ring();
//
// Either the waiter's last look sees what was put, or the ringer sees that it waits.
// Threads: one waiter, any number of ringers.
#pragma once

#include <atomic>
#include <span>

#include "common/clock.h"
#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::engine {

class Bell {
 public:
  [[nodiscard]] static StatusOr<UniqueFd> open_eventfd();
  explicit Bell(UniqueFd eventfd) : fd_(std::move(eventfd)) {}

  void ring() noexcept;

  void about_to_wait() { is_waiting_.store(true, std::memory_order_seq_cst); }
  void woke_up() noexcept;
  [[nodiscard]] int fd() const { return fd_.get(); }

  // about_to_wait(), then, unless has_work(), sleeps until rung, one of `others` is readable, or
  // the deadline; woke_up().
  template <typename HasWork>
  void wait(Deadline deadline, std::span<const int> others, const HasWork& has_work) {
    about_to_wait();
    if (!has_work()) sleep(deadline, others);
    woke_up();
  }

  static constexpr std::size_t kOthersMax = 64;

 private:
  void sleep(Deadline deadline, std::span<const int> others) const;

  UniqueFd fd_;
  std::atomic<bool> is_waiting_{false};
};

}  // namespace trireme::engine
