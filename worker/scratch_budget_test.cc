#include "worker/scratch_budget.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

ModelConfig eight_billion() {
  ModelConfig config;
  config.vocabulary_size = 128256;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.head_count = 32;
  config.kv_head_count = 8;
  config.head_dim = 128;
  return config;
}

constexpr uint64_t kMib = uint64_t{1} << 20;

TEST(ScratchBudget, follows_tokens_and_rows_of_logits) {
  const SchedulerOptions options{.sequences_max = 256, .batched_tokens_max = 2048};
  const uint64_t all = scratch_bytes(eight_billion(), {}, options, 64);
  const uint64_t logits = uint64_t{3} * 4 * 320 * 128256;
  EXPECT_EQ(all, 4 * uint64_t{2048} * (10 * 4096 + 2 * 1024 + 3 * 14336 + 2 * 14336) + logits);
  EXPECT_GT(all, 1200 * kMib);
  const SchedulerOptions twice{.sequences_max = 256, .batched_tokens_max = 4096};
  EXPECT_EQ(scratch_bytes(eight_billion(), {}, twice, 64), 2 * (all - logits) + logits);
}

TEST(ScratchBudget, is_divided_over_ranks_and_only_the_last_stage_has_logits) {
  const SchedulerOptions options{.sequences_max = 256, .batched_tokens_max = 2048};
  const uint64_t alone = scratch_bytes(eight_billion(), {}, options, 64);
  EXPECT_LT(scratch_bytes(eight_billion(), {.tp_size = 4}, options, 64), alone);
  EXPECT_EQ(scratch_bytes(eight_billion(), {.pp_rank = 1, .pp_size = 2}, options, 64), alone);
  EXPECT_LT(scratch_bytes(eight_billion(), {.pp_size = 2}, options, 64), alone);
}

TEST(ScratchBudget, a_step_has_no_more_rows_of_logits_than_tokens) {
  ModelConfig wide = eight_billion();
  const SchedulerOptions options{.sequences_max = 256, .batched_tokens_max = 8};
  const uint64_t before = scratch_bytes(wide, {}, options, 64);
  wide.vocabulary_size += 1000;
  EXPECT_EQ(scratch_bytes(wide, {}, options, 64), before + uint64_t{3} * 4 * 8 * 1000);
}

TEST(ScratchBudget, queries_in_the_space_of_a_latent_cache_are_counted) {
  ModelConfig config = eight_billion();
  config.latent = LatentSizes{
      .q_rank = 1536, .kv_rank = 512, .plain_size = 128, .rope_size = 64, .value_size = 128};
  const SchedulerOptions options{.sequences_max = 1, .batched_tokens_max = 100};
  const uint64_t grown = scratch_bytes(config, {.pp_size = 2}, options, 0);
  const uint64_t without = scratch_bytes(eight_billion(), {.pp_size = 2}, options, 0);
  EXPECT_EQ(
      grown - without,
      uint64_t{4} * 100 * (1536 + 512 + 64 + 32 * (128 + 64 + 512 + 128) - 2 * (32 + 8) * 128));
}

TEST(ScratchBudget, whole_experts_and_the_rows_of_others_are_counted_where_experts_are_divided) {
  ModelConfig config = eight_billion();
  config.expert_count = 64;
  config.experts_per_token = 4;
  config.expert_intermediate_size = 1024;
  config.intermediate_size = 1024;
  const SchedulerOptions options{.sequences_max = 1, .batched_tokens_max = 100};
  const WorkerPlace place{.tp_size = 2, .pp_size = 2};
  const uint64_t apart = scratch_bytes(config, place, options, 0);
  const uint64_t divided = scratch_bytes(config, place, options, 0, 4);
  const uint64_t rows = 300;  // Of three others.
  EXPECT_EQ(divided - apart, uint64_t{4} * (100 * 3 * 512 + rows * (4 * 4096 + 3 * 1024) +
                                            100 * 4096 * (4 * 5 + 4 + 3)));
}

}  // namespace
}  // namespace trireme::worker
