// ThreadPlace: the core of one thread of a pool, as the other threads see it.
//
// When another process has the core, a thread that waits may lend its own: the kernel moves a
// thread that is runnable but does not run at once, whereas by itself it would wait for its next
// slice.
//
//   lost core: the thread is runnable, and its CPU clock stands still
//   lend       it runs on the lender's core; the lender should sleep
//   go_home    it goes back to its own core
//   swap       it keeps the lender's core, and the lender takes its
//
// Threads: the thread itself calls take() and go_home(), any other the rest; only one at a time
// lends to or swaps with the same place. Where the kernel refuses (a sandbox), nothing moves.
#pragma once

#include <sched.h>

#include <atomic>

namespace trireme::worker {

class ThreadPlace {
 public:
  // The calling thread is at home on `cpu` from now on. A CPU that is negative, not there or not
  // allowed leaves it where the OS puts it.
  void take(int cpu);
  void go_home() {
    if (is_away_.load(std::memory_order_relaxed)) return_home();
  }

  // Takes some microseconds. False for a thread that sleeps, runs, or has ended.
  [[nodiscard]] bool has_lost_core() const;
  // To the core that the calling thread runs on.
  bool lend_this_core();
  // `mine` is the calling thread's place.
  void swap_with(ThreadPlace& mine);

 private:
  [[nodiscard]] bool is_runnable() const;
  void return_home();

  static constexpr int kAnywhere = -1;
  std::atomic<int> thread_id_{0};  // 0: nobody yet.
  std::atomic<int> clock_{0};
  std::atomic<int> home_{kAnywhere};
  std::atomic<bool> is_away_{false};
  cpu_set_t anywhere_{};  // The thread's own.
};

}  // namespace trireme::worker
