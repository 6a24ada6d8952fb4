// Goal: a mixture whose experts are divided over ranks tells the same tokens and the same logprobs,
// bit by bit, as one worker that has all experts: in any company, with ranks that have nothing to
// do, however steps are cut into forwards, and where experts move to where the load is.
#include <gtest/gtest.h>

#include "tests/numerics/wishes_for_test.h"

namespace trireme::worker {
namespace {

// With a shared expert, dense layers between, groups of experts, a latent cache.
const std::vector<std::string> kMixtures = {
    "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_moe_every_second", "deepseek_v2", "deepseek_v3"};

class ExpertParallel : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, ExpertParallel, testing::ValuesIn(kMixtures),
                         [](const auto& test) { return test.param; });

TEST_P(ExpertParallel, two_ranks_tell_what_one_with_all_experts_does) {
  RanksInStep group(GetParam(), {.dp = 2});
  Ranks it(1, {2, 2});
  group.run_all(it.ranks);
  RanksInStep alone(GetParam(), kAllInOne);
  it.expect_as_alone(alone);
}

TEST_P(ExpertParallel, four_ranks_of_which_one_has_nothing_to_do_tell_the_same) {
  RanksInStep group(GetParam(), {.dp = 4});
  Ranks it(10, {1, 0, 2, 1});
  group.run_all(it.ranks);
  RanksInStep alone(GetParam(), kAllInOne);
  it.expect_as_alone(alone);
}

TEST_P(ExpertParallel, tensor_parallel_ranks_tell_the_same_whoever_their_neighbours_are) {
  RanksInStep group(GetParam(), {.dp = 2, .tp = 2, .dtype = "float32"});
  Ranks it(20, {3, 2});
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

// They move every other forward.
constexpr BalancerConfig kMoving{.window_size = 4, .step_interval = 2, .redundant_count = 3};

TEST_P(ExpertParallel, ranks_whose_experts_move_while_they_serve_tell_the_same) {
  RanksInStep group(GetParam(), {.dp = 4, .balancing = kMoving});
  Ranks it(40, {2, 1, 0, 2});
  group.run_all(it.ranks);
  RanksInStep alone(GetParam(), kAllInOne);
  it.expect_as_alone(alone);
  EXPECT_GT(group.moves(), 0U);
}

TEST_P(ExpertParallel, prompts_of_one_token_that_want_the_same_experts_tell_the_same) {
  std::vector<std::vector<Wish>> wishes;
  std::vector<RankForTest> ranks;
  for (uint64_t rank = 0; rank < 4; ++rank) {
    wishes.push_back(random_wishes(60 + rank, 2));
    for (Wish& wish : wishes.back()) {
      std::ranges::fill(wish.prompt, 7);
      wish.outputs = 6;
    }
    ranks.emplace_back(wishes.back());
  }
  RanksInStep group(GetParam(), {.dp = 4, .balancing = kMoving});
  group.run_all(ranks);
  EXPECT_GT(group.moves(), 0U);
  RanksInStep alone(GetParam(), kAllInOne);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    EXPECT_EQ(ranks[rank].told, run_alone(alone, wishes[rank])) << "rank " << rank;
  }
}

TEST_P(ExpertParallel, tensor_parallel_ranks_whose_experts_move_tell_the_same) {
  RanksInStep group(GetParam(), {.dp = 2, .tp = 2, .balancing = kMoving, .dtype = "float32"});
  Ranks it(20, {3, 2});
  group.run_all(it.ranks);
  RanksInStep neighbourless(GetParam(), {.tp = 2, .dtype = "float32"});
  it.expect_as_alone(neighbourless);
  EXPECT_GT(group.moves(), 0U);
}

TEST(ExpertParallelStages, whose_experts_move_tell_the_same) {
  uint64_t moves = 0;
  for (const std::string name : {"mixtral", "qwen2_moe_dense_layer", "deepseek_v3"}) {
    RanksInStep group(name, {.dp = 2, .pp = 2, .balancing = kMoving});
    Ranks it(30, {2, 2});
    group.run_all(it.ranks);
    RanksInStep alone(name, kAllInOne);
    it.expect_as_alone(alone);
    moves += group.moves();
  }
  EXPECT_GT(moves, 0U);
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

const std::vector<std::optional<BalancerConfig>> kBalancings = {std::nullopt, kMoving};

TEST_P(ExpertParallel, nodes_that_have_their_own_experts_only_tell_the_same) {
  for (const std::optional<BalancerConfig>& balancing : kBalancings) {
    RanksInStep group(GetParam(), {.dp = 4, .balancing = balancing, .node_ranks = 2});
    Ranks it(40, {1, 2, 1, 1});
    group.run_all(it.ranks);
    EXPECT_LT(group.weight_bytes(0), RanksInStep(GetParam(), {.dp = 4}).weight_bytes(0));
    RanksInStep alone(GetParam(), kAllInOne);
    it.expect_as_alone(alone);
  }
}

TEST_P(ExpertParallel, experts_of_a_rank_that_is_away_are_loaded_by_the_others) {
  for (const std::optional<BalancerConfig>& balancing : kBalancings) {
    RanksInStep group(GetParam(), {.dp = 3, .balancing = balancing, .node_ranks = 1});
    Ranks it(60, {2, 1, 2});
    const std::vector<std::vector<uint32_t>> members = {{0, 1, 2}, {0, 2}, {0}, {0, 1}, {0, 1, 2}};
    for (const auto& of_wave : members) {
      group.set_members(of_wave);
      group.run_step(it.ranks);
    }
    group.run_all(it.ranks);
    RanksInStep alone(GetParam(), kAllInOne);
    it.expect_as_alone(alone);
  }
}

void go_on_with_those_that_are_left(const std::optional<BalancerConfig>& balancing) {
  RanksInStep group("deepseek_v2", {.dp = 3, .balancing = balancing});
  std::vector<std::vector<Wish>> wishes;
  std::vector<RankForTest> ranks;
  for (uint64_t rank = 0; rank < 3; ++rank) {
    wishes.push_back(random_wishes(50 + rank, 3));
    for (Wish& wish : wishes.back()) wish.outputs = 7;
    ranks.emplace_back(wishes.back());
  }
  const std::vector<std::vector<uint32_t>> members = {{0, 1, 2}, {0, 2}, {2}, {1, 2}, {0, 1, 2}};
  for (const auto& of_wave : members) {
    group.set_members(of_wave);
    for (int i = 0; i < 2; ++i) group.run_step(ranks);
  }
  group.run_all(ranks);
  RanksInStep alone("deepseek_v2", kAllInOne);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(ranks[rank].told, run_alone(alone, wishes[rank])) << "rank " << rank;
  }
  EXPECT_EQ(group.moves() > 0, balancing.has_value());
}

TEST(ExpertParallelWaves, go_on_with_those_that_are_left_and_with_those_that_come_back) {
  go_on_with_those_that_are_left(std::nullopt);
}

TEST(ExpertParallelWaves, agree_anew_on_where_experts_are_whoever_comes_and_goes) {
  go_on_with_those_that_are_left(kMoving);
}

}  // namespace
}  // namespace trireme::worker
