// Goal: no wake-up is lost, and who waits long costs nothing.
// Method: two threads that play a word back and forth, parking at every turn.
#include "common/shm/doorbell.h"

#include <gtest/gtest.h>

#include <thread>

namespace trireme::shm {
namespace {

constexpr Duration kPatience = std::chrono::seconds(20);

Duration cpu_time_of_thread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + Duration(time.tv_nsec);
}

TEST(Doorbell, no_wake_up_is_lost_without_spinning) {
  constexpr uint64_t kTurns = 20'000;
  Doorbell bell{};
  std::atomic<uint64_t> word{0};
  // Each side waits until the word's parity is its own, then passes it on.
  const auto play = [&](uint64_t side) {
    SpinBudget budget{Duration::zero()};
    for (uint64_t turn = side; turn < kTurns; turn += 2) {
      const auto is_mine = [&] { return word.load(std::memory_order_seq_cst) == turn; };
      if (!wait_for(bell, static_cast<uint32_t>(side), budget, Deadline::after(kPatience),
                    is_mine)) {
        return;
      }
      word.store(turn + 1, std::memory_order_seq_cst);
      bell.ring();
    }
  };
  std::jthread other([&] { play(1); });
  play(0);
  other.join();
  EXPECT_EQ(word.load(), kTurns);
  EXPECT_EQ(bell.parked.load(), 0);
}

TEST(Doorbell, deadline_ends_the_wait) {
  Doorbell bell{};
  SpinBudget budget{Duration::zero()};
  const Instant begin = now();
  EXPECT_FALSE(wait_for(bell, 0, budget, Deadline::after(std::chrono::milliseconds(20)),
                        [] { return false; }));
  EXPECT_GE(now() - begin, std::chrono::milliseconds(20));
}

TEST(Doorbell, long_wait_uses_no_cpu) {
  Doorbell bell{};
  SpinBudget budget{std::chrono::microseconds(20)};
  const Duration before = cpu_time_of_thread();
  EXPECT_FALSE(wait_for(bell, 0, budget, Deadline::after(std::chrono::milliseconds(200)),
                        [] { return false; }));
  EXPECT_LT(cpu_time_of_thread() - before, std::chrono::milliseconds(2));
}

TEST(SpinBudget, shrinks_while_words_are_slow_and_grows_back_while_they_are_fast) {
  constexpr Duration kMax = std::chrono::microseconds(16);
  SpinBudget budget{kMax};
  for (int i = 0; i < 10; ++i) budget.learn(std::chrono::milliseconds(5));
  EXPECT_EQ(budget.get(), SpinBudget::kMin);
  for (int i = 0; i < 10; ++i) budget.learn(std::chrono::microseconds(3));
  EXPECT_EQ(budget.get(), kMax);
}

TEST(SpinBudget, zero_stays_zero) {
  SpinBudget budget{Duration::zero()};
  budget.learn(std::chrono::milliseconds(5));
  budget.learn(Duration::zero());
  EXPECT_EQ(budget.get(), Duration::zero());
}

}  // namespace
}  // namespace trireme::shm
