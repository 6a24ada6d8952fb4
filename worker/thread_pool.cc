#include "worker/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>

namespace trireme::worker {
namespace {

// Longer than the gap between two operators of a forward pass, shorter than a scheduler slice.
constexpr uint32_t kSpinsBeforeParking = 2000;

void relax() { __builtin_ia32_pause(); }

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// A CPU that is not there, or not allowed here, leaves the thread where the OS puts it.
void pin_to(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

}  // namespace

ThreadPool::ThreadPool(uint32_t thread_count, std::span<const int> cpus) {
  if (!cpus.empty()) pin_to(cpus[0]);
  for (uint32_t index = 1; index < thread_count; ++index) {
    const int cpu = cpus.empty() ? -1 : cpus[index % cpus.size()];
    threads_.emplace_back([this, index, cpu] { thread_main(index, cpu); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  job_.fetch_add(2);
  futex_wake_all(job_);
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run_shared(uint32_t piece_count, Piece piece, void* context) {
  piece_ = piece;
  context_ = context;
  piece_count_ = piece_count;
  next_.store(0, std::memory_order_relaxed);
  job_.fetch_add(1);
  if (parked_.load() > 0) futex_wake_all(job_);
  claim_pieces();
  job_.fetch_add(1);
  // A thread counts itself in before it looks whether the job is open, so after this wait nobody
  // reads the job any more.
  for (uint32_t spins = 0;; ++spins) {
    const uint32_t inside = inside_.load();
    if (inside == 0) return;
    if (spins < kSpinsBeforeParking) {
      relax();
    } else {
      futex_wait(inside_, inside);
    }
  }
}

void ThreadPool::claim_pieces() {
  for (;;) {
    const uint32_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= piece_count_) return;
    piece_(context_, index);
  }
}

uint32_t ThreadPool::wait_for_job(uint32_t seen) {
  for (uint32_t spins = 0; spins < kSpinsBeforeParking; ++spins) {
    if (const uint32_t now = job_.load(std::memory_order_acquire); now != seen) return now;
    relax();
  }
  for (;;) {
    parked_.fetch_add(1);
    futex_wait(job_, seen);
    parked_.fetch_sub(1);
    if (const uint32_t now = job_.load(std::memory_order_acquire); now != seen) return now;
  }
}

void ThreadPool::thread_main(uint32_t index, int cpu) {
  char name[16];
  std::snprintf(name, sizeof(name), "compute-%u", index);
  pthread_setname_np(pthread_self(), name);
  pin_to(cpu);
  uint32_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    seen = wait_for_job(seen);
    if (seen % 2 == 0) continue;
    inside_.fetch_add(1);
    if (job_.load() == seen) claim_pieces();
    // The last one out may find the owner asleep; a wake without a sleeper costs little and is
    // rare, for the owner parks only behind a stolen core.
    if (inside_.fetch_sub(1) == 1 && job_.load() != seen) futex_wake_all(inside_);
  }
}

}  // namespace trireme::worker
