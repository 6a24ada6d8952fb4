#include "worker/thread_place.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace trireme::worker {
namespace {

// Several times what the kernel needs to read the clock of a thread on another core.
constexpr uint32_t kSpinsBetweenReadings = 100;

bool set_affinity(int thread_id, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  return sched_setaffinity(thread_id, sizeof(set), &set) == 0;
}

// Nothing of a thread that has ended is ever equal to it.
int64_t nanoseconds_run(clockid_t clock) {
  static std::atomic<int64_t> ended{-1};
  timespec time{};
  if (clock_gettime(clock, &time) != 0) return ended.fetch_sub(1, std::memory_order_relaxed);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

}  // namespace

void ThreadPlace::take(int cpu) {
  CPU_ZERO(&anywhere_);
  (void)sched_getaffinity(0, sizeof(anywhere_), &anywhere_);
  if (cpu >= 0 && cpu < CPU_SETSIZE && set_affinity(0, cpu)) home_.store(cpu);
  clockid_t clock = 0;
  if (pthread_getcpuclockid(pthread_self(), &clock) != 0) return;
  clock_.store(clock, std::memory_order_relaxed);
  thread_id_.store(gettid(), std::memory_order_release);
}

bool ThreadPlace::has_lost_core() const {
  if (thread_id_.load(std::memory_order_acquire) == 0) return false;
  const auto clock = static_cast<clockid_t>(clock_.load(std::memory_order_relaxed));
  const int64_t before = nanoseconds_run(clock);
  for (uint32_t i = 0; i < kSpinsBetweenReadings; ++i) __builtin_ia32_pause();
  return nanoseconds_run(clock) == before && is_runnable();
}

bool ThreadPlace::is_runnable() const {
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id_.load());
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[64] = {};
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  const char* name_end = size > 0 ? std::strrchr(text, ')') : nullptr;
  return name_end != nullptr && name_end[1] == ' ' && name_end[2] == 'R';
}

bool ThreadPlace::lend_this_core() {
  if (!set_affinity(thread_id_.load(), sched_getcpu())) return false;
  // Not before: the thread could be home already and then be moved for good.
  is_away_.store(true);
  return true;
}

void ThreadPlace::swap_with(ThreadPlace& mine) {
  if (!lend_this_core()) return;
  mine.home_.store(home_.exchange(mine.home_.load()));
  mine.return_home();
}

void ThreadPlace::return_home() {
  is_away_.store(false);
  const int home = home_.load();
  if (home == kAnywhere) {
    (void)sched_setaffinity(0, sizeof(anywhere_), &anywhere_);
  } else {
    (void)set_affinity(0, home);
  }
}

}  // namespace trireme::worker
