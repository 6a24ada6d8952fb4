// ThreadPool: the workers of one forward pass; used instead of OpenMP, whose spinning barriers
// cost a whole scheduler slice whenever another process wants the core.
//
// A job is a number of pieces. The caller and every pool thread that is awake claim pieces one by
// one; the caller returns when all are done. It never waits for a thread that has not claimed a
// piece, and one that loses its core to another process in the middle of a piece gets the core of a
// thread that waits for it (thread_place.h): a stolen core costs its share and no more. Between
// jobs a thread spins for some microseconds, then sleeps on a futex: an idle pool uses no CPU.
//
//   pool.run(pieces, [&](uint32_t piece) { ... });
//
// Which thread runs a piece is not determined, so a piece must not depend on it.
// A pool of one thread, and a job of one piece, run in the caller without any synchronisation.
// Threads: one owner calls run(), from one thread at a time, never from inside a piece. Only the
// thread that made the pool is bound, and gets another core when it loses its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "worker/thread_place.h"

namespace trireme::worker {

class ThreadPool {
 public:
  // thread_count counts the caller (so thread_count - 1 are started). With cpus, thread i is
  // pinned to cpus[i % size]; the caller is pinned too, to cpus[0], when the pool is made. Threads
  // may exchange their cores among themselves later.
  explicit ThreadPool(uint32_t thread_count, std::span<const int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] uint32_t thread_count() const { return static_cast<uint32_t>(seats_.size()); }

  template <typename Body>
  void run(uint32_t piece_count, Body&& body) {
    if (piece_count <= 1 || threads_.empty()) {
      for (uint32_t piece = 0; piece < piece_count; ++piece) body(piece);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    run_shared(
        piece_count, [](void* context, uint32_t piece) { (*static_cast<Plain*>(context))(piece); },
        const_cast<std::remove_const_t<Plain>*>(&body));
  }

 private:
  using Piece = void (*)(void* context, uint32_t piece);

  void run_shared(uint32_t piece_count, Piece piece, void* context);
  struct alignas(64) Seat {
    ThreadPlace place;
    std::atomic<bool> is_inside{false};
  };

  void claim_pieces();
  void wait_for_stragglers();
  void thread_main(uint32_t index, int cpu);
  uint32_t wait_for_job(uint32_t seen, Seat& mine);
  void help_owner(Seat& mine);

  // Written by the owner while no job is open and nobody is inside.
  Piece piece_ = nullptr;
  void* context_ = nullptr;
  uint32_t piece_count_ = 0;

  alignas(64) std::atomic<uint32_t> job_{0};  // Odd: a job is open.
  std::atomic<uint32_t> parked_{0};
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<uint32_t> next_{0};    // The next unclaimed piece.
  alignas(64) std::atomic<uint32_t> inside_{0};  // Threads that may be reading the job.
  std::atomic<bool> is_helped_{false};           // Some thread looks after the owner's core.
  std::vector<Seat> seats_;                      // The owner's is the first.
  std::vector<std::thread> threads_;
};

}  // namespace trireme::worker
