// Goal: every piece runs exactly once, on any number of threads, over many jobs back to back.
#include "worker/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/clock.h"

namespace trireme::worker {
namespace {

TEST(ThreadPool, every_piece_runs_once) {
  for (uint32_t threads : {1U, 2U, 3U, 5U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.thread_count(), threads);
    for (uint32_t pieces : {0U, 1U, 2U, 7U, 100U}) {
      std::vector<std::atomic<int>> runs(pieces);
      pool.run(pieces, [&](uint32_t piece) { ++runs[piece]; });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, what_the_pieces_wrote_is_seen_after_run) {
  ThreadPool pool(3);
  std::vector<uint64_t> sums(16);
  for (uint64_t job = 1; job <= 2000; ++job) {
    pool.run(16, [&](uint32_t piece) { sums[piece] += job * piece; });
  }
  for (uint64_t piece = 0; piece < 16; ++piece) EXPECT_EQ(sums[piece], piece * 2000 * 2001 / 2);
}

TEST(ThreadPool, jobs_reach_threads_that_sleep) {
  ThreadPool pool(2);
  for (int job = 0; job < 3; ++job) {
    // Two pieces that wait for each other need two threads.
    std::atomic<int> arrived{0};
    pool.run(2, [&](uint32_t) {
      ++arrived;
      const auto deadline = Deadline::after(std::chrono::seconds(10));
      while (arrived.load() < 2 && !deadline.has_passed()) {
        std::this_thread::yield();
      }
    });
    EXPECT_EQ(arrived.load(), 2);
  }
}

// The scheduler's state letters of the pool's threads: "SSS" when all three sleep.
std::string states_of_pool_threads() {
  std::string states;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string line;
    std::getline(std::ifstream(task.path() / "stat"), line);
    const std::size_t name_end = line.rfind(')');
    if (line.find("(compute-") == std::string::npos || name_end == std::string::npos) continue;
    states += line[name_end + 2];
  }
  return states;
}

TEST(ThreadPool, an_idle_pool_sleeps) {
  ThreadPool pool(4);
  pool.run(4, [](uint32_t) {});
  const auto deadline = Deadline::after(std::chrono::seconds(10));
  while (states_of_pool_threads() != "SSS" && !deadline.has_passed()) {
  }
  EXPECT_EQ(states_of_pool_threads(), "SSS");
}

TEST(ThreadPool, pieces_whose_thread_lost_its_core_are_done_once_too) {
  // Four threads and two neighbours that never sleep fight for two cores at most.
  const std::vector<int> cpus = {0, 1};
  std::atomic<bool> is_over{false};
  std::vector<std::thread> neighbours;
  for (const int cpu : cpus) {
    neighbours.emplace_back([&is_over, cpu] {
      ThreadPlace place;
      place.take(cpu);
      while (!is_over.load()) {
      }
    });
  }
  std::vector<uint64_t> sums(32);
  {
    ThreadPool pool(4, cpus);
    for (uint64_t job = 1; job <= 300; ++job) {
      pool.run(32, [&](uint32_t piece) {
        volatile uint64_t work = 0;
        for (uint32_t i = 0; i < 5000; ++i) work = work + i;
        sums[piece] += job * piece;
      });
    }
  }
  is_over = true;
  for (std::thread& neighbour : neighbours) neighbour.join();
  for (uint64_t piece = 0; piece < 32; ++piece) EXPECT_EQ(sums[piece], piece * 300 * 301 / 2);
}

TEST(ThreadPool, a_cpu_that_does_not_exist_is_ignored) {
  const std::vector<int> cpus = {1 << 20, -3};
  ThreadPool pool(2, cpus);
  std::atomic<int> runs{0};
  pool.run(8, [&](uint32_t) { ++runs; });
  EXPECT_EQ(runs.load(), 8);
}

}  // namespace
}  // namespace trireme::worker
