#include "engine_core/lockstep/step_board.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <thread>

namespace trireme::engine {
namespace {

// As who starts the ranks holds it.
class StepBoardTest : public testing::Test {
 protected:
  static constexpr uint32_t kFirst = 2;
  static constexpr uint32_t kCount = 3;

  void SetUp() override {
    auto parts = StepBoard::create(kFirst, kCount);
    ASSERT_TRUE(parts.ok()) << parts.status();
    parts_.emplace(*std::move(parts));
  }

  StatusOr<std::unique_ptr<StepBoard>> try_attach(uint32_t rank) {
    auto memory = shm::Mapping::attach(UniqueFd(::dup(parts_->memory.fd())));
    if (!memory.ok()) return memory.status();
    std::vector<UniqueFd> bells;
    for (const UniqueFd& bell : parts_->bells) bells.emplace_back(::dup(bell.get()));
    return StepBoard::attach(*std::move(memory), std::move(bells), rank);
  }
  std::unique_ptr<StepBoard> attach(uint32_t rank) {
    auto board = try_attach(rank);
    EXPECT_TRUE(board.ok()) << board.status();
    return *std::move(board);
  }

  static bool is_readable(int fd) {
    pollfd one{fd, POLLIN, 0};
    return ::poll(&one, 1, 0) == 1;
  }

  std::optional<StepBoard::Parts> parts_;
  const std::vector<uint32_t> ranks_ = {2, 4};
};

TEST_F(StepBoardTest, a_summary_is_there_when_all_have_posted) {
  const auto two = attach(2);
  const auto four = attach(4);
  two->post({.wave = WaveId{7}, .step = 1, .next = WaveId{9}}, ranks_);
  EXPECT_FALSE(four->gather(WaveId{7}, 1, ranks_));
  EXPECT_EQ(four->missing(WaveId{7}, 1, ranks_), std::vector<uint32_t>{4});
  four->post({.wave = WaveId{7}, .step = 1, .has_work = true, .pause = {5, PauseMode::kKeep}},
             ranks_);
  const StepSummary expected{.has_work = true,
                             .next_low = WaveId{0},
                             .next_high = WaveId{9},
                             .pause = {5, PauseMode::kKeep}};
  EXPECT_EQ(two->gather(WaveId{7}, 1, ranks_), expected);
  EXPECT_EQ(four->gather(WaveId{7}, 1, ranks_), expected);
}

TEST_F(StepBoardTest, the_last_two_records_of_a_rank_are_there) {
  const auto two = attach(2);
  const auto four = attach(4);
  for (const uint64_t step : {1, 2, 3}) two->post({.wave = WaveId{7}, .step = step}, ranks_);
  EXPECT_FALSE(four->find(2, WaveId{7}, 1));
  EXPECT_TRUE(four->find(2, WaveId{7}, 2));
  EXPECT_TRUE(four->find(2, WaveId{7}, 3));
}

TEST_F(StepBoardTest, who_sleeps_is_woken_and_nobody_else) {
  const auto two = attach(2);
  const auto four = attach(4);
  two->post({.wave = WaveId{7}, .step = 1}, ranks_);
  EXPECT_FALSE(is_readable(four->fd()));
  four->about_to_wait();
  two->post({.wave = WaveId{7}, .step = 2}, ranks_);
  EXPECT_TRUE(is_readable(four->fd()));
  four->woke_up();
  EXPECT_FALSE(is_readable(four->fd()));
}

TEST_F(StepBoardTest, a_rank_that_comes_back_posts_again) {
  const auto four = attach(4);
  attach(2)->post({.wave = WaveId{7}, .step = 1}, ranks_);
  const auto two = attach(2);
  two->post({.wave = WaveId{8}, .step = 1}, ranks_);
  two->post({.wave = WaveId{8}, .step = 2}, ranks_);
  EXPECT_TRUE(four->find(2, WaveId{8}, 1));
  EXPECT_TRUE(four->find(2, WaveId{8}, 2));
}

TEST_F(StepBoardTest, another_memory_or_place_is_refused) {
  EXPECT_EQ(try_attach(1).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(try_attach(5).status().code(), StatusCode::kDataLoss);
  auto other = shm::Mapping::create("other", 4096);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(StepBoard::attach(*std::move(other), {}, 2).status().code(), StatusCode::kDataLoss);
}

// Three ranks step as fast as they can; nobody ever sees a record of another step, or half of one.
TEST_F(StepBoardTest, ranks_that_step_together_agree_on_every_step) {
  constexpr uint64_t kSteps = 20'000;
  const std::vector<uint32_t> ranks = {2, 3, 4};
  std::vector<std::thread> threads;
  for (const uint32_t rank : ranks) {
    threads.emplace_back([&ranks, rank, board = attach(rank)] {
      for (uint64_t step = 1; step <= kSteps; ++step) {
        board->post({.wave = WaveId{1},
                     .step = step,
                     .has_work = step % 3 == rank % 3,
                     .pause = {step * 8 + rank, PauseMode::kNone}},
                    ranks);
        std::optional<StepSummary> all;
        while (!(all = board->gather(WaveId{1}, step, ranks))) std::this_thread::yield();
        ASSERT_EQ(all->pause.sequence, step * 8 + 4);
        ASSERT_TRUE(all->has_work);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace trireme::engine
