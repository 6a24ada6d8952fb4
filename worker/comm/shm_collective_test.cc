// Ranks as threads over one mapping (which the thread sanitizer sees through), and as processes.
#include "worker/comm/shm_collective.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "worker/comm/waits_for_test.h"

namespace trireme::worker {
namespace {

constexpr Duration kPatient = std::chrono::seconds(30);
using Body = std::function<void(ShmCollective&)>;

std::shared_ptr<const shm::Mapping> memory_of(uint32_t size) {
  StatusOr<shm::Mapping> memory = ShmCollective::create_memory(size);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return std::make_shared<const shm::Mapping>(*std::move(memory));
}

void run_ranks(uint32_t size, Duration limit, const Body& body) {
  const auto memory = memory_of(size);
  std::vector<std::thread> ranks;
  for (uint32_t rank = 0; rank < size; ++rank) {
    ranks.emplace_back([&, rank] {
      auto group = ShmCollective::attach(memory, rank, size, limit);
      ASSERT_TRUE(group.ok()) << group.status();
      body(**group);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

float value_of(uint32_t rank, std::size_t i) {
  return std::sin(static_cast<float>(rank * 1000 + i % 977)) * (rank == 1 ? 1e4F : 1.0F);
}

TEST(ShmCollective, sums_are_taken_in_rank_order_on_every_rank) {
  for (const uint32_t size : {1U, 2U, 3U, 4U}) {
    for (const std::size_t count :
         {std::size_t{1}, std::size_t{1000}, ShmCollective::kPartFloats * 2 + 5}) {
      run_ranks(size, kPatient, [&](ShmCollective& group) {
        std::vector<float> values(count);
        for (std::size_t i = 0; i < count; ++i) values[i] = value_of(group.rank(), i);
        ASSERT_TRUE(group.all_reduce_sum(values).ok());
        for (std::size_t i = 0; i < count; ++i) {
          float expected = value_of(0, i);
          for (uint32_t rank = 1; rank < size; ++rank) expected += value_of(rank, i);
          ASSERT_EQ(values[i], expected) << size << " " << i;
        }
      });
    }
  }
}

TEST(ShmCollective, a_wait_shows_that_its_worker_can_run) {
  SignOfLife sign{};
  auto group = ShmCollective::attach(memory_of(2), 0, 2, std::chrono::seconds(1), LifeSigns(sign));
  ASSERT_TRUE(group.ok()) << group.status();
  expect_shown(sign, [&] { EXPECT_FALSE((*group)->barrier().ok()); });
}

TEST(ShmCollective, gathers_every_part_in_rank_order) {
  const std::size_t count = ShmCollective::kPartFloats + 3;
  run_ranks(3, kPatient, [&](ShmCollective& group) {
    std::vector<float> mine(count);
    for (std::size_t i = 0; i < count; ++i) mine[i] = value_of(group.rank(), i);
    std::vector<float> out(3 * count);
    ASSERT_TRUE(group.all_gather(mine, out).ok());
    for (uint32_t rank = 0; rank < 3; ++rank) {
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(out[rank * count + i], value_of(rank, i));
    }
  });
}

TEST(ShmCollective, many_operations_in_a_row_never_mix) {
  run_ranks(3, kPatient, [](ShmCollective& group) {
    std::vector<float> values(7);
    for (int round = 0; round < 2000; ++round) {
      std::fill(values.begin(), values.end(), static_cast<float>(round));
      ASSERT_TRUE(group.all_reduce_sum(values).ok());
      for (const float value : values) ASSERT_EQ(value, 3 * static_cast<float>(round));
      if (round % 7 == 0) {
        ASSERT_TRUE(group.barrier().ok());
      }
    }
  });
}

TEST(ShmCollective, rank_that_does_not_come_is_named_and_breaks_the_group) {
  const auto memory = memory_of(3);
  const auto limit = std::chrono::milliseconds(30);
  auto group = ShmCollective::attach(memory, 0, 3, limit);
  auto other = ShmCollective::attach(memory, 1, 3, limit);
  ASSERT_TRUE(group.ok() && other.ok());
  const Status status = (*group)->barrier();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_NE(std::string(status.message()).find("rank 1, 2 did not come"), std::string::npos)
      << status;
  const Instant begin = now();
  EXPECT_EQ((*group)->barrier().code(), StatusCode::kUnavailable);
  EXPECT_EQ((*other)->barrier().code(), StatusCode::kUnavailable);
  EXPECT_LT(now() - begin, limit) << "a broken group fails at once";
}

TEST(ShmCollective, breaking_wakes_who_waits) {
  const auto memory = memory_of(2);
  std::thread waiting([&] {
    auto group = ShmCollective::attach(memory, 0, 2, kPatient);
    std::vector<float> values(3);
    EXPECT_FALSE((*group)->all_reduce_sum(values).ok());
  });
  auto group = ShmCollective::attach(memory, 1, 2, kPatient);
  std::vector<float> values(4);
  EXPECT_FALSE((*group)->all_reduce_sum(values).ok()) << "other count than rank 0";
  waiting.join();
}

TEST(ShmCollective, memory_of_another_group_is_refused) {
  const auto memory = memory_of(2);
  EXPECT_EQ(ShmCollective::attach(memory, 0, 3, kPatient).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(ShmCollective::attach(memory, 2, 2, kPatient).status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(ShmCollective::create_memory(0).ok());
  EXPECT_FALSE(ShmCollective::create_memory(65).ok());
}

// What each process of the group does; its exit code.
int run_process(int fd, uint32_t rank) {
  auto mapping = shm::Mapping::attach(UniqueFd(::dup(fd)));
  if (!mapping.ok()) return 2;
  auto memory = std::make_shared<const shm::Mapping>(*std::move(mapping));
  auto group = ShmCollective::attach(memory, rank, 2, kPatient);
  if (!group.ok()) return 3;
  std::vector<float> values(100);
  for (int round = 0; round < 500; ++round) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(rank, i);
    if (!(*group)->all_reduce_sum(values).ok()) return 4;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != value_of(0, i) + value_of(1, i)) return 5;
    }
  }
  return 0;
}

TEST(ShmCollective, joins_processes) {
  const StatusOr<shm::Mapping> memory = ShmCollective::create_memory(2);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(run_process(memory->fd(), 1));
  EXPECT_EQ(run_process(memory->fd(), 0), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace trireme::worker
