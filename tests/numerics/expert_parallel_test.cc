// Goal: a mixture whose experts are divided over ranks tells the same tokens and the same logprobs,
// bit by bit, as one worker that has all experts: in any company, with ranks that have nothing to
// do, however steps are cut into forwards, and wherever waves are left.
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/numerics/wave_for_test.h"

namespace trireme::worker {
namespace {

// With a shared expert, dense layers between, groups of experts, a latent cache.
const std::vector<std::string> kMixtures = {
    "mixtral",     "qwen2_moe",  "qwen2_moe_dense_layer", "qwen3_moe", "qwen3_moe_every_second",
    "deepseek_v2", "deepseek_v3"};

std::vector<int32_t> random_tokens(Random& random, uint32_t count) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(60));
  return tokens;
}

// Some are described, so that steps take several forwards; some are sampled; they come and go.
std::vector<Wish> random_wishes(uint64_t seed, uint32_t count) {
  Random random(seed);
  std::vector<Wish> wishes;
  for (uint32_t i = 0; i < count; ++i) {
    Wish wish{.prompt = random_tokens(random, 1 + static_cast<uint32_t>(random.below(24))),
              .outputs = 1 + static_cast<uint32_t>(random.below(6)),
              .chunk = 1 + static_cast<uint32_t>(random.below(24)),
              .arrives_at = static_cast<uint32_t>(random.below(5))};
    wish.sampling.temperature = random.below(2) == 0 ? 0.0F : 1.0F;
    wish.sampling.seed = random.next();
    wish.sampling.logprobs = 2;
    if (random.below(2) == 0) wish.sampling.prompt_logprobs = 1;
    wishes.push_back(std::move(wish));
  }
  return wishes;
}

// Each wish alone, in a group of such a shape.
std::vector<Told> run_alone(RanksInStep& group, const std::vector<Wish>& wishes) {
  std::vector<Told> told;
  for (Wish wish : wishes) {
    wish.arrives_at = 0;
    std::vector<RankForTest> one;
    one.emplace_back(std::vector<Wish>{wish});
    group.run_all(one);
    told.push_back(one[0].told[0]);
  }
  return told;
}

struct Ranks {
  // `wishes` of each, seeded differently.
  Ranks(uint64_t seed, const std::vector<uint32_t>& counts) {
    for (const uint32_t count : counts) {
      wishes.push_back(random_wishes(++seed, count));
      ranks.emplace_back(wishes.back());
    }
  }
  void expect_as_alone(RanksInStep& group) const {
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      EXPECT_EQ(ranks[rank].told, run_alone(group, wishes[rank])) << "rank " << rank;
    }
  }
  std::vector<std::vector<Wish>> wishes;
  std::vector<RankForTest> ranks;
};

const RanksShape kAllInOne{.divides_experts = false};

class ExpertParallel : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, ExpertParallel, testing::ValuesIn(kMixtures),
                         [](const auto& test) { return test.param; });

TEST_P(ExpertParallel, two_ranks_tell_what_one_with_all_experts_does) {
  RanksInStep group(GetParam(), {.dp = 2});
  Ranks it(1, {3, 2});
  group.run_all(it.ranks);
  RanksInStep alone(GetParam(), kAllInOne);
  it.expect_as_alone(alone);
}

TEST_P(ExpertParallel, four_ranks_of_which_one_has_nothing_to_do_tell_the_same) {
  RanksInStep group(GetParam(), {.dp = 4});
  Ranks it(10, {2, 0, 3, 1});
  group.run_all(it.ranks);
  RanksInStep alone(GetParam(), kAllInOne);
  it.expect_as_alone(alone);
}

TEST_P(ExpertParallel, tensor_parallel_ranks_tell_the_same_whoever_their_neighbours_are) {
  RanksInStep group(GetParam(), {.dp = 2, .tp = 2, .dtype = "float32"});
  Ranks it(20, {2, 2});
  group.run_all(it.ranks);
  RanksInStep neighbourless(GetParam(), {.tp = 2, .dtype = "float32"});
  it.expect_as_alone(neighbourless);
  RanksInStep alone(GetParam(), {.divides_experts = false, .dtype = "float32"});
  for (std::size_t rank = 0; rank < it.ranks.size(); ++rank) {
    const auto expected = run_alone(alone, it.wishes[rank]);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(it.ranks[rank].told[i].tokens, expected[i].tokens) << "within rounding";
    }
  }
}

TEST_P(ExpertParallel, waves_may_be_left_anywhere) {
  RanksInStep alone(GetParam(), kAllInOne);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    RanksInStep group(GetParam(), {.dp = 2});
    Ranks it(100 * seed, {2, seed % 2 == 0 ? 2U : 0U});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(alone);
    EXPECT_GT(group.waves_left, 0U) << seed;
  }
}

TEST(ExpertParallelStages, tell_the_same) {
  for (const std::string name : {"mixtral", "qwen2_moe_dense_layer", "deepseek_v3"}) {
    RanksInStep group(name, {.dp = 2, .pp = 2});
    Ranks it(30, {2, 2});
    group.run_all(it.ranks);
    RanksInStep alone(name, kAllInOne);
    it.expect_as_alone(alone);
  }
}

TEST(ExpertParallelStages, that_leave_at_different_forwards_tell_the_same) {
  RanksInStep alone("qwen3_moe", kAllInOne);
  uint32_t steps_again = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    RanksInStep group("qwen3_moe", {.dp = 2, .pp = 2});
    Ranks it(200 * seed, {2, 1});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(alone);
    steps_again += group.steps_again;
  }
  EXPECT_GT(steps_again, 0U);
}

TEST(ExpertParallelStages, of_tensor_parallel_ranks_that_leave_tell_the_same) {
  RanksInStep neighbourless("qwen2_moe", {.tp = 2, .pp = 2});
  uint32_t steps_again = 0;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RanksInStep group("qwen2_moe", {.dp = 2, .tp = 2, .pp = 2});
    Ranks it(300 * seed, {1, 1});
    group.run_all(it.ranks, seed);
    it.expect_as_alone(neighbourless);
    steps_again += group.steps_again;
  }
  EXPECT_GT(steps_again, 0U);
}

TEST(ExpertParallelDrafts, are_judged_the_same_in_steps_that_are_run_again) {
  RanksInStep alone("qwen3_moe", kAllInOne);
  Random random(6);
  Wish wish{.prompt = random_tokens(random, 9), .outputs = 14};
  wish.sampling.temperature = 0;
  wish.sampling.logprobs = 1;
  const Told expected = run_alone(alone, {wish})[0];
  wish.hints = expected.tokens;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    RanksInStep group("qwen3_moe", {.dp = 2});
    std::vector<RankForTest> ranks;
    ranks.emplace_back(std::vector<Wish>{wish});
    ranks.emplace_back(random_wishes(seed, 1));
    group.run_all(ranks, seed == 0 ? std::nullopt : std::optional(seed));
    EXPECT_EQ(ranks[0].told[0], expected) << seed;
    EXPECT_GT(ranks[0].accepted_count, 2U);
  }
}

TEST(ExpertParallelWaves, go_on_with_those_that_are_left_and_with_those_that_come_back) {
  RanksInStep group("deepseek_v2", {.dp = 3});
  std::vector<std::vector<Wish>> wishes;
  std::vector<RankForTest> ranks;
  for (uint64_t rank = 0; rank < 3; ++rank) {
    wishes.push_back(random_wishes(50 + rank, 3));
    for (Wish& wish : wishes.back()) wish.outputs = 12;
    ranks.emplace_back(wishes.back());
  }
  const std::vector<std::vector<uint32_t>> members = {{0, 1, 2}, {0, 2}, {2}, {1, 2}, {0, 1, 2}};
  for (const auto& of_wave : members) {
    group.set_members(of_wave);
    for (int i = 0; i < 3; ++i) group.run_step(ranks);
  }
  group.run_all(ranks);
  RanksInStep alone("deepseek_v2", kAllInOne);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(ranks[rank].told, run_alone(alone, wishes[rank])) << "rank " << rank;
  }
}

}  // namespace
}  // namespace trireme::worker
