#include "common/shm/doorbell.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace trireme::shm {

void Doorbell::wake() {
  rings.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, &rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Doorbell::park(uint32_t seen, Deadline deadline) {
  const auto since_boot = deadline.at().time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_boot);
  const timespec at{.tv_sec = seconds.count(), .tv_nsec = (since_boot - seconds).count()};
  // BITSET only because it takes a point in time on the monotonic clock.
  ::syscall(SYS_futex, &rings, FUTEX_WAIT_BITSET, seen, deadline.is_never() ? nullptr : &at,
            nullptr, FUTEX_BITSET_MATCH_ANY);
}

Duration default_spin_max() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const bool has_one = ::sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) <= 1;
  return has_one ? Duration::zero() : Duration(std::chrono::microseconds(20));
}

}  // namespace trireme::shm
