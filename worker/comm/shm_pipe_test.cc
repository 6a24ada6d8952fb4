#include "worker/comm/shm_pipe.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "worker/comm/waits_for_test.h"

namespace trireme::worker {
namespace {

constexpr Duration kPatient = std::chrono::seconds(30);

std::shared_ptr<const shm::Mapping> memory() {
  StatusOr<shm::Mapping> made = ShmPipe::create_memory();
  EXPECT_TRUE(made.ok()) << made.status();
  return std::make_shared<const shm::Mapping>(*std::move(made));
}

TEST(ShmPipe, values_arrive_whole_and_in_order_in_any_sizes) {
  const auto shared = memory();
  const std::vector<std::size_t> sizes = {
      1, 7, 100'000, ShmPipe::kRingFloats, 2 * ShmPipe::kRingFloats + 11, 3};
  std::thread sender([&] {
    auto pipe = ShmPipe::attach(shared, 1, kPatient);
    ASSERT_TRUE(pipe.ok()) << pipe.status();
    float next = 0;
    for (const std::size_t size : sizes) {
      std::vector<float> values(size);
      for (float& value : values)
        value = next = static_cast<float>((static_cast<int>(next) + 1) % 4001);
      ASSERT_TRUE((*pipe)->send(values).ok());
    }
  });
  auto pipe = ShmPipe::attach(shared, 0, kPatient);
  ASSERT_TRUE(pipe.ok()) << pipe.status();
  float next = 0;
  for (const std::size_t size : sizes) {
    std::vector<float> values(size);
    ASSERT_TRUE((*pipe)->receive(values).ok());
    for (const float value : values) {
      next = static_cast<float>((static_cast<int>(next) + 1) % 4001);
      ASSERT_EQ(value, next);
    }
  }
  sender.join();
}

TEST(ShmPipe, stage_that_gives_nothing_is_named_and_breaks_the_pipe) {
  const auto shared = memory();
  auto last = ShmPipe::attach(shared, 0, std::chrono::milliseconds(20));
  auto first = ShmPipe::attach(shared, 1, kPatient);
  ASSERT_TRUE(first.ok() && last.ok());
  std::vector<float> values(3);
  const Status status = (*last)->receive(values);
  EXPECT_EQ(std::string(status.message()), "pipeline stage 0 gave no hidden rows within 0.02 s");
  EXPECT_EQ((*last)->receive(values).code(), StatusCode::kUnavailable);
  std::vector<float> many(2 * ShmPipe::kRingFloats);
  EXPECT_EQ((*first)->send(many).code(), StatusCode::kUnavailable);
}

TEST(ShmPipe, a_wait_shows_that_its_worker_can_run) {
  SignOfLife sign{};
  constexpr Duration kWait = std::chrono::seconds(1);
  auto full = ShmPipe::attach(memory(), 1, kWait, LifeSigns(sign));
  auto empty = ShmPipe::attach(memory(), 0, kWait, LifeSigns(sign));
  ASSERT_TRUE(full.ok() && empty.ok());
  std::vector<float> values(ShmPipe::kRingFloats + 1);
  expect_shown(sign, [&] { EXPECT_FALSE((*full)->send(values).ok()); });
  expect_shown(sign, [&] { EXPECT_FALSE((*empty)->receive(values).ok()); });
}

TEST(ShmPipe, other_memory_is_refused) {
  StatusOr<shm::Mapping> other = shm::Mapping::create("other", 4096);
  ASSERT_TRUE(other.ok());
  const auto shared = std::make_shared<const shm::Mapping>(*std::move(other));
  EXPECT_EQ(ShmPipe::attach(shared, 0, kPatient).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::worker
