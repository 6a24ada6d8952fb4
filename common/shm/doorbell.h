// Doorbell: how one process waits for another's word in shared memory at no cost to the other.
//
//   waiter: spin shortly on is_ready ─ not yet ─> set own bit in `parked` ─> look once more ─>
//   FUTEX_WAIT ringer: change the word ─> parked == 0: done (a load)  |  otherwise: count `rings`,
//   FUTEX_WAKE
//
// No wake-up is lost: the ringer's store and its load of `parked`, the waiter's store to `parked`
// and its last look are all sequentially consistent, so one of the two sees the other. Hence the
// caller's duty: the word that is_ready looks at is stored and loaded with memory_order_seq_cst. A
// waiter that is killed leaves its bit behind; that costs the ringer a system call per ring until
// a successor with the same bit has waited once.
//
// Spinning adapts: it goes up to `spin_max` while words come that fast, and shrinks to a
// microsecond while they do not. A waiter that waits long uses no CPU. Threads: one per waiter bit
// and SpinBudget; any number of ringers.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace trireme::shm {

inline constexpr std::size_t kLine = 128;  // Two cache lines: the prefetcher fetches pairs.
inline constexpr uint32_t kWaitersMax = 64;

struct alignas(kLine) Doorbell {
  std::atomic<uint64_t> parked;  // A bit per waiter.
  std::atomic<uint32_t> rings;   // The futex.

  void ring() {
    if (parked.load(std::memory_order_seq_cst) != 0) wake();
  }
  void wake();

  // For wait_for() only. Sleeps unless `rings` has changed since `seen`; may return early.
  void park(uint32_t seen, Deadline deadline);
};
static_assert(sizeof(Doorbell) == kLine);
static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A count that one thread raises and any process reads.
class OwnCount {
 public:
  void add(uint64_t more) {
    count_.store(count_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t get() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> count_;
};

class SpinBudget {
 public:
  static constexpr Duration kMin = std::chrono::microseconds(1);
  // `parks` (may be null) counts how often the waiter went to sleep.
  explicit SpinBudget(Duration spin_max, OwnCount* parks = nullptr)
      : max_(spin_max), now_(spin_max), parks_(parks) {}

  [[nodiscard]] Duration get() const { return now_; }
  void count_park() {
    if (parks_ != nullptr) parks_->add(1);
  }
  // How long the word took in the end.
  void learn(Duration waited) {
    now_ = waited <= max_ ? std::min(max_, now_ * 2) : std::max(std::min(kMin, max_), now_ / 2);
  }

 private:
  Duration max_;
  Duration now_;
  OwnCount* parks_;
};

// Spinning pays only where the other side can run at the same time.
[[nodiscard]] Duration default_spin_max();

// True as soon as is_ready(); false when the deadline has passed.
template <typename IsReady>
bool wait_for(Doorbell& bell, uint32_t waiter, SpinBudget& budget, Deadline deadline,
              const IsReady& is_ready) {
  constexpr int kLooksPerClock = 32;
  if (is_ready()) return true;
  const Instant begin = now();
  if (begin >= deadline.at()) return false;
  const Instant spin_end = std::min(begin + budget.get(), deadline.at());
  while (now() < spin_end) {
    for (int look = 0; look < kLooksPerClock; ++look) {
      if (is_ready()) return true;
      pause_cpu();
    }
  }
  const uint64_t bit = uint64_t{1} << waiter;
  bool ready = false;
  while (true) {
    const uint32_t seen = bell.rings.load(std::memory_order_seq_cst);
    bell.parked.fetch_or(bit, std::memory_order_seq_cst);
    ready = is_ready();
    if (ready || deadline.has_passed()) break;
    budget.count_park();
    bell.park(seen, deadline);
  }
  bell.parked.fetch_and(~bit, std::memory_order_seq_cst);
  budget.learn(now() - begin);
  return ready;
}

}  // namespace trireme::shm
