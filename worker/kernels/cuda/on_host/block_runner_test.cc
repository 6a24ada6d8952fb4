// Goal: what a kernel does on the emulated multiprocessor is what a GPU would do, and what a GPU
// would leave open is reported. Method: small kernels, in both orders of the threads.
#include "worker/kernels/cuda/on_host/block_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "worker/kernels/cuda/launch.h"
#include "worker/kernels/cuda/reduce.h"

namespace trireme::worker::cuda::on_host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Blocks : public testing::TestWithParam<ThreadOrder> {
 protected:
  void SetUp() override { runner_.set_thread_order(GetParam()); }
  void TearDown() override { runner_.set_thread_order(ThreadOrder::kForwards); }

  [[nodiscard]] std::string run(uint32_t threads, const std::function<void()>& kernel,
                                std::size_t shared_bytes = 0, Index3 blocks = {1, 1, 1}) {
    return runner_.run({.blocks = blocks, .threads = {threads, 1, 1}, .shared_bytes = shared_bytes},
                       kernel);
  }

  BlockRunner& runner_ = BlockRunner::of_this_thread();
};

INSTANTIATE_TEST_SUITE_P(Both, Blocks,
                         testing::Values(ThreadOrder::kForwards, ThreadOrder::kBackwards),
                         [](const auto& test) {
                           return test.param == ThreadOrder::kForwards ? "forwards" : "backwards";
                         });

TEST_P(Blocks, behind_a_barrier_all_see_what_all_wrote_before_it) {
  std::vector<uint32_t> seen(70);
  const auto kernel = [&] {
    auto* const shared = dynamic_shared<uint32_t>();
    for (uint32_t round = 0; round < 3; ++round) {
      shared[threadIdx.x] = threadIdx.x + round;
      __syncthreads();
      seen[threadIdx.x] = shared[(threadIdx.x + 33) % blockDim.x];
      __syncthreads();
    }
  };
  EXPECT_EQ(run(70, kernel, 70 * sizeof(uint32_t)), "");
  for (uint32_t i = 0; i < 70; ++i) EXPECT_EQ(seen[i], (i + 33) % 70 + 2);
}

TEST_P(Blocks, lanes_exchange_what_they_have_at_that_moment) {
  std::vector<float> sums(64);
  const auto kernel = [&] { sums[threadIdx.x] = warp_sum(static_cast<float>(threadIdx.x)); };
  EXPECT_EQ(run(64, kernel), "");
  for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(sums[i], i < 32 ? 496 : 1520);
}

TEST_P(Blocks, a_block_s_sum_reaches_every_thread) {
  std::vector<float> sums(96);
  const auto kernel = [&] {
    sums[threadIdx.x] = block_sum(1) + block_sum(static_cast<float>(threadIdx.x));
  };
  EXPECT_EQ(run(96, kernel), "");
  EXPECT_THAT(sums, testing::Each(96 + 95 * 48));
}

TEST_P(Blocks, blocks_come_in_order_with_their_own_indices) {
  std::vector<uint32_t> order;
  const auto kernel = [&] {
    if (threadIdx.x == 0) {
      order.push_back(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * gridDim.x);
    }
  };
  EXPECT_EQ(run(2, kernel, 0, {2, 1, 2}), "");
  EXPECT_THAT(order, ElementsAre(2000, 2001, 2100, 2101));
}

TEST_P(Blocks, shared_memory_begins_as_nan_in_every_block) {
  uint32_t nans = 0;
  const auto kernel = [&] {
    auto* const shared = dynamic_shared<float>();
    nans += std::isnan(shared[threadIdx.x]) ? 1 : 0;
    shared[threadIdx.x] = 1;
  };
  EXPECT_EQ(run(4, kernel, 4 * sizeof(float), {3, 1, 1}), "");
  EXPECT_EQ(nans, 12U);
}

TEST_P(Blocks, a_barrier_that_some_threads_never_reach_is_reported_with_both_sides) {
  const auto kernel = [] {
    if (threadIdx.x >= 40) return;
    __syncthreads();
  };
  const std::string wrong = run(64, kernel);
  EXPECT_THAT(wrong, HasSubstr("block (0, 0, 0)"));
  EXPECT_THAT(wrong, HasSubstr("waits for its block at"));
  EXPECT_THAT(wrong, HasSubstr("block_runner_test.cc"));
  EXPECT_THAT(wrong, HasSubstr("thread (40, 0, 0) has ended"));
}

TEST_P(Blocks, two_barriers_that_wait_for_each_other_are_reported) {
  const auto kernel = [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  };
  EXPECT_THAT(run(64, kernel), HasSubstr("but thread (32, 0, 0) waits for its block at"));
}

TEST_P(Blocks, an_exchange_that_a_lane_does_not_take_part_in_is_reported) {
  const auto kernel = [] {
    if (threadIdx.x == 7) return;
    static_cast<void>(warp_sum(1));
  };
  EXPECT_THAT(run(32, kernel), HasSubstr("but thread (7, 0, 0) has ended"));
}

TEST_P(Blocks, an_exchange_of_a_warp_that_is_not_whole_is_reported) {
  const auto kernel = [] { static_cast<void>(warp_sum(1)); };
  EXPECT_THAT(run(20, kernel), HasSubstr("whose last warp is not whole"));
}

TEST_P(Blocks, lanes_named_by_a_mask_exchange_without_the_others) {
  std::vector<uint32_t> got(32);
  const auto kernel = [&] {
    constexpr uint32_t kLowLanes = 0xffU;
    if (threadIdx.x < 8) got[threadIdx.x] = __shfl_sync(kLowLanes, threadIdx.x * 10, 3);
  };
  EXPECT_EQ(run(32, kernel), "");
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(got[i], 30U);
}

TEST_P(Blocks, the_next_grid_runs_after_one_that_was_stuck) {
  EXPECT_NE(run(64,
                [] {
                  if (threadIdx.x == 0) __syncthreads();
                }),
            "");
  uint32_t ran = 0;
  EXPECT_EQ(run(64, [&] { ++ran; }), "");
  EXPECT_EQ(ran, 64U);
}

TEST_P(Blocks, blocks_and_grids_larger_than_a_gpu_s_are_refused) {
  EXPECT_THAT(run(1025, [] {}), HasSubstr("a block of 1025 threads"));
  EXPECT_THAT(run(1, [] {}, 0, {1, 65536, 1}), HasSubstr("a grid of (1, 65536, 1) blocks"));
}

// What the two orders are for: the kernel reads what another thread may not have written yet.
TEST(ThreadOrders, a_missing_barrier_shows_as_different_bits) {
  const auto run = [](ThreadOrder order) {
    std::vector<uint32_t> seen(32);
    auto& runner = BlockRunner::of_this_thread();
    runner.set_thread_order(order);
    const auto kernel = [&] {
      auto* const shared = dynamic_shared<uint32_t>();
      shared[threadIdx.x] = threadIdx.x;
      seen[threadIdx.x] = shared[threadIdx.x / 2];
    };
    EXPECT_EQ(runner.run({.blocks = {1, 1, 1}, .threads = {32, 1, 1}, .shared_bytes = 128}, kernel),
              "");
    runner.set_thread_order(ThreadOrder::kForwards);
    return seen;
  };
  EXPECT_NE(run(ThreadOrder::kForwards), run(ThreadOrder::kBackwards));
}

}  // namespace
}  // namespace trireme::worker::cuda::on_host
