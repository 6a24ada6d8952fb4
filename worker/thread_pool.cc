#include "worker/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>

namespace trireme::worker {
namespace {

// Longer than the gap between two operators of a forward pass, shorter than a scheduler slice.
constexpr uint32_t kSpinsBeforeParking = 2000;
// About as long as a piece: then it is worth to look what a straggler does.
constexpr uint32_t kSpinsBeforeLooking = 500;
// How often a sleeper looks while a job is open.
constexpr timespec kLookAgain = {.tv_sec = 0, .tv_nsec = 200'000};

void relax() { __builtin_ia32_pause(); }

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected, const timespec* timeout) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

ThreadPool::ThreadPool(uint32_t thread_count, std::span<const int> cpus)
    : seats_(std::max(thread_count, 1U)) {
  const auto cpu_of = [&](uint32_t index) { return cpus.empty() ? -1 : cpus[index % cpus.size()]; };
  for (uint32_t index = 1; index < thread_count; ++index) {
    threads_.emplace_back([this, index, cpu = cpu_of(index)] { thread_main(index, cpu); });
  }
  seats_[0].place.take(cpu_of(0));
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
  seats_[0].place.go_home();
  job_.fetch_add(1);
  // Who parks from here on sees that there is a job.
  if (parked_.exchange(0) > 0) futex_wake_all(job_);
  claim_pieces();
  job_.fetch_add(1);
  wait_for_stragglers();
}

// A thread counts itself in before it looks whether the job is open, so after this nobody reads the
// job any more.
void ThreadPool::wait_for_stragglers() {
  for (uint32_t spins = 1;; ++spins) {
    const uint32_t inside = inside_.load();
    if (inside == 0) return;
    relax();
    if (spins % kSpinsBeforeLooking != 0) continue;
    bool is_lent = false;
    for (Seat& seat : seats_) {
      if (!seat.is_inside.load() || !seat.place.has_lost_core()) continue;
      is_lent = seat.place.lend_this_core() || is_lent;
    }
    if (is_lent) futex_wait(inside_, inside, &kLookAgain);
  }
}

void ThreadPool::claim_pieces() {
  for (;;) {
    const uint32_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= piece_count_) return;
    piece_(context_, index);
  }
}

uint32_t ThreadPool::wait_for_job(uint32_t seen, Seat& mine) {
  for (uint32_t spins = 0; spins < kSpinsBeforeParking; ++spins) {
    if (const uint32_t now = job_.load(std::memory_order_acquire); now != seen) return now;
    relax();
  }
  for (;;) {
    help_owner(mine);
    const bool is_open = seen % 2 == 1;
    parked_.fetch_add(1);
    futex_wait(job_, seen, is_open ? &kLookAgain : nullptr);
    if (const uint32_t now = job_.load(std::memory_order_acquire); now != seen) return now;
  }
}

// There is nothing to do here: the owner may have lost its core, in its last piece or between jobs.
void ThreadPool::help_owner(Seat& mine) {
  if (is_helped_.exchange(true)) return;
  ThreadPlace& owner = seats_[0].place;
  if (owner.has_lost_core()) owner.swap_with(mine.place);
  is_helped_.store(false);
}

void ThreadPool::thread_main(uint32_t index, int cpu) {
  char name[16];
  std::snprintf(name, sizeof(name), "compute-%u", index);
  pthread_setname_np(pthread_self(), name);
  Seat& mine = seats_[index];
  mine.place.take(cpu);
  uint32_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    seen = wait_for_job(seen, mine);
    if (seen % 2 == 0) continue;
    mine.is_inside.store(true);
    inside_.fetch_add(1);
    if (job_.load() == seen) claim_pieces();
    mine.is_inside.store(false);
    // The last one out may find the owner asleep; a wake without a sleeper costs little and is
    // rare, for the owner sleeps only when it has lent its core.
    if (inside_.fetch_sub(1) == 1 && job_.load() != seen) futex_wake_all(inside_);
    mine.place.go_home();
  }
}

}  // namespace trireme::worker
