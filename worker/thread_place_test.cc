// Goal: a thread that waits for a core is told from one that runs or sleeps, and goes where it is
// sent and back. Method: three threads that never sleep, bound to one core.
#include "worker/thread_place.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <thread>
#include <vector>

#include "common/clock.h"

namespace trireme::worker {
namespace {

bool comes_true(const std::function<bool()>& condition) {
  const auto deadline = Deadline::after(std::chrono::seconds(20));
  while (!deadline.has_passed()) {
    if (condition()) return true;
  }
  return condition();
}

std::vector<int> cpus_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// Threads that never sleep, all at home on one core.
class BusyThreads {
 public:
  static constexpr std::size_t kCount = 3;

  explicit BusyThreads(int cpu) {
    for (std::size_t i = 0; i < kCount; ++i) {
      threads_[i] = std::thread([this, i, cpu] { run(i, cpu); });
    }
  }
  ~BusyThreads() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  ThreadPlace& place(std::size_t index) { return places_[index]; }
  [[nodiscard]] int cpu(std::size_t index) const { return cpus_[index].load(); }
  void send_home(std::size_t index) { goes_home_[index] = true; }

 private:
  void run(std::size_t index, int cpu) {
    places_[index].take(cpu);
    while (!is_over_.load()) {
      if (goes_home_[index].exchange(false)) places_[index].go_home();
      cpus_[index].store(sched_getcpu());
    }
  }

  std::array<ThreadPlace, kCount> places_;
  std::array<std::atomic<int>, kCount> cpus_ = {-1, -1, -1};
  std::array<std::atomic<bool>, kCount> goes_home_ = {};
  std::atomic<bool> is_over_{false};
  std::array<std::thread, kCount> threads_;
};

TEST(ThreadPlace, a_thread_that_waits_for_its_core_has_lost_it) {
  BusyThreads busy(cpus_of_this_process().front());
  for (std::size_t i = 0; i < BusyThreads::kCount; ++i) {
    EXPECT_TRUE(comes_true([&] { return busy.place(i).has_lost_core(); })) << i;
    EXPECT_TRUE(comes_true([&] { return !busy.place(i).has_lost_core(); })) << i;
  }
}

TEST(ThreadPlace, a_thread_that_sleeps_or_has_ended_has_lost_nothing) {
  ThreadPlace nobody;
  EXPECT_FALSE(nobody.has_lost_core());
  ThreadPlace place;
  std::atomic<bool> is_over{false};
  std::thread sleeper([&] {
    place.take(-1);
    is_over.wait(false);
  });
  EXPECT_TRUE(comes_true([&] { return !place.has_lost_core(); }));
  is_over = true;
  is_over.notify_all();
  sleeper.join();
  EXPECT_FALSE(place.has_lost_core());
}

TEST(ThreadPlace, a_thread_goes_where_a_core_is_lent_and_back_home) {
  const std::vector<int> cpus = cpus_of_this_process();
  if (cpus.size() < 2) GTEST_SKIP() << "one core";
  BusyThreads busy(cpus[0]);
  ASSERT_TRUE(comes_true([&] { return busy.cpu(1) == cpus[0]; }));
  std::thread lender([&] {
    ThreadPlace mine;
    mine.take(cpus[1]);
    EXPECT_TRUE(busy.place(1).lend_this_core());
  });
  lender.join();
  EXPECT_TRUE(comes_true([&] { return busy.cpu(1) == cpus[1]; }));
  busy.send_home(1);
  EXPECT_TRUE(comes_true([&] { return busy.cpu(1) == cpus[0]; }));
}

TEST(ThreadPlace, who_swaps_has_the_other_s_home) {
  const std::vector<int> cpus = cpus_of_this_process();
  if (cpus.size() < 2) GTEST_SKIP() << "one core";
  BusyThreads busy(cpus[0]);
  ASSERT_TRUE(comes_true([&] { return busy.cpu(2) == cpus[0]; }));
  std::thread other([&] {
    ThreadPlace mine;
    mine.take(cpus[1]);
    busy.place(2).swap_with(mine);
    EXPECT_EQ(sched_getcpu(), cpus[0]);
  });
  other.join();
  busy.send_home(2);
  EXPECT_TRUE(comes_true([&] { return busy.cpu(2) == cpus[1]; }));
}

}  // namespace
}  // namespace trireme::worker
