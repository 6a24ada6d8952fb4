// Goal: wherever waves are left, ranks whose experts are divided tell what one worker with all
// experts does: a step that is run again repeats nothing of what it gave, and goes on with the
// rest.
#include <gtest/gtest.h>

#include "tests/numerics/wishes_for_test.h"

namespace trireme::worker {
namespace {

class LeftWaves : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, LeftWaves,
                         testing::Values("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2",
                                         "deepseek_v3"),
                         [](const auto& test) { return test.param; });

TEST_P(LeftWaves, change_nothing_wherever_they_are_left) {
  RanksInStep alone(GetParam(), kAllInOne);
  uint32_t steps_again = 0;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RanksInStep group(GetParam(), {.dp = 2});
    Ranks it(100 * seed, {2, seed % 2 == 0 ? 2U : 0U});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(alone);
    steps_again += group.steps_again;
  }
  EXPECT_GT(steps_again, 0U);
}

TEST_P(LeftWaves, change_nothing_where_experts_move) {
  RanksInStep alone(GetParam(), kAllInOne);
  uint32_t steps_again = 0;
  uint64_t moves = 0;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RanksInStep group(
        GetParam(),
        {.dp = 3,
         .balancing = BalancerConfig{.window_size = 3, .step_interval = 1, .redundant_count = 2}});
    Ranks it(100 * seed, {2, 0, 1});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(alone);
    steps_again += group.steps_again;
    moves += group.moves();
  }
  EXPECT_GT(steps_again, 0U);
  EXPECT_GT(moves, 0U);
}

TEST(LeftWavesOfStages, that_leave_at_different_forwards_tell_the_same) {
  RanksInStep alone("qwen3_moe", kAllInOne);
  uint32_t steps_again = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    RanksInStep group("qwen3_moe", {.dp = 2, .pp = 2});
    Ranks it(200 * seed, {2, 1});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(alone);
    steps_again += group.steps_again;
  }
  EXPECT_GT(steps_again, 0U);
}

TEST(LeftWavesOfStages, of_tensor_parallel_ranks_that_leave_tell_the_same) {
  RanksInStep neighbourless("qwen2_moe", {.tp = 2, .pp = 2});
  uint32_t steps_again = 0;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    RanksInStep group("qwen2_moe", {.dp = 2, .tp = 2, .pp = 2});
    Ranks it(300 * seed, {1, 1});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(neighbourless);
    steps_again += group.steps_again;
  }
  EXPECT_GT(steps_again, 0U);
}

TEST(LeftWavesWithDrafts, are_judged_the_same_in_steps_that_are_run_again) {
  RanksInStep alone("qwen3_moe", kAllInOne);
  Random random(6);
  Wish wish{.prompt = random_tokens(random, 9), .outputs = 10};
  wish.sampling.temperature = 0;
  wish.sampling.logprobs = 1;
  const Told expected = run_alone(alone, {wish})[0];
  wish.hints = expected.tokens;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    RanksInStep group("qwen3_moe", {.dp = 2});
    std::vector<RankForTest> ranks;
    ranks.emplace_back(std::vector<Wish>{wish});
    ranks.emplace_back(random_wishes(seed, 1));
    group.run_all(ranks, seed == 0 ? std::nullopt : std::optional(seed));
    EXPECT_EQ(ranks[0].told[0], expected) << seed;
    EXPECT_GT(ranks[0].accepted_count, 2U);
  }
}

}  // namespace
}  // namespace trireme::worker
