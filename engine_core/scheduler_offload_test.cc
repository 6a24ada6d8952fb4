// Goal: blocks that the cache has no room for go to the store and come back as hits; requests of
// different salts, and those that pool, find nothing there; what is lost there is computed again.
#include <gtest/gtest.h>

#include "engine_core/scheduler_bench_for_test.h"

namespace trireme::engine {
namespace {

SchedulerConfig store_config() {
  SchedulerConfig config = small_config();
  config.model_tokens_max = 64;
  config.kv.block_count = 16;
  config.kv.store_slot_count = 64;
  config.store_slot_bytes = 1000;
  return config;
}

// To its end: one output token.
wire::EngineOutput run(SchedulerBench& bench, uint64_t key, uint64_t tokens_of,
                       const std::string& salt = "") {
  wire::AddRequest added = request(tokens_of, 60, 1);
  added.key = RequestKey{key};
  added.cache_salt = salt;
  bench.add(added);
  const auto outputs = bench.step();
  EXPECT_EQ(outputs.size(), 1u);
  return outputs.at(0);
}

TEST(SchedulerOffload, what_others_drove_out_comes_back_as_a_hit) {
  SchedulerBench bench(store_config());
  const auto cold = run(bench, 1, 1);
  run(bench, 2, 2);
  EXPECT_EQ(bench.scheduler.stats().store_bytes, 14000u) << "a block was free without it";
  const auto warm = run(bench, 3, 1);
  EXPECT_EQ(warm.token_ids, cold.token_ids);
  EXPECT_EQ(warm.cached_prompt_tokens, 56u);
  const wire::EngineStats stats = bench.scheduler.stats();
  EXPECT_EQ(stats.store_hit_tokens, 52u);
  EXPECT_EQ(stats.prefix_hit_tokens, 4u) << "the first block was the last to go";
  EXPECT_EQ(stats.store_query_tokens, 60u + 60u + 56u);
  bench.scheduler.check_invariants();
}

TEST(SchedulerOffload, saves_come_before_what_needs_the_blocks_and_are_made_once) {
  SchedulerBench bench(store_config());
  run(bench, 1, 1);
  const auto second = request(2, 60, 1);
  bench.add(second);
  const wire::StepInput step = bench.schedule();
  EXPECT_EQ(step.save_blocks.size(), 14u);
  EXPECT_TRUE(step.load_blocks.empty());
  bench.collect();
  bench.add(request(1, 60, 1));
  const wire::StepInput back = bench.schedule();
  EXPECT_EQ(back.load_blocks.size(), 13u);
  bench.collect();
  bench.add(request(3, 60, 1));
  const wire::StepInput third = bench.schedule();
  EXPECT_LT(third.save_blocks.size(), 3u) << "all but the prompt's last block lie there";
  bench.collect();
}

TEST(SchedulerOffload, another_salt_and_a_request_that_pools_find_nothing) {
  SchedulerBench bench(store_config());
  run(bench, 1, 1, "mine");
  run(bench, 2, 2);
  EXPECT_EQ(run(bench, 3, 1, "yours").cached_prompt_tokens, 0u);
  run(bench, 4, 4);
  wire::AddRequest pooled = request(1, 60);
  pooled.cache_salt = "mine";
  pooled.sampling.pooling = wire::Pooling::kMean;
  const uint64_t hits = bench.scheduler.stats().store_hit_tokens;
  bench.add(pooled);
  EXPECT_TRUE(bench.schedule().load_blocks.empty());
  bench.collect();
  EXPECT_EQ(bench.scheduler.stats().store_hit_tokens, hits);
  EXPECT_GT(run(bench, 6, 1, "mine").cached_prompt_tokens, 0u);
}

TEST(SchedulerOffload, a_reset_forgets_the_store) {
  SchedulerBench bench(store_config());
  run(bench, 1, 1);
  run(bench, 2, 2);
  ASSERT_TRUE(bench.scheduler.reset_prefix_cache());
  EXPECT_EQ(bench.scheduler.stats().store_bytes, 0u);
  EXPECT_EQ(run(bench, 3, 1).cached_prompt_tokens, 0u);
}

TEST(SchedulerOffload, a_failed_load_restarts_the_request_and_no_other) {
  SchedulerConfig config = store_config();
  config.kv.block_count = 20;
  Scheduler scheduler(config);
  FakeWorker worker({20, 4, true, 0, false, 64, 0});
  StepOutputs outputs;
  std::vector<wire::EngineOutput> taken;
  const auto step = [&] {
    const wire::StepInput* input = scheduler.schedule(Instant{});
    ASSERT_NE(input, nullptr);
    wire::StepResult result = worker.execute(*input);
    ASSERT_TRUE(scheduler.on_result(result, Instant{}, outputs).ok());
    outputs.take(kFront, taken);
  };
  for (const uint64_t key : {1, 2}) {
    scheduler.add(kFront, request(key, 60, 1), Instant{}, outputs);
    step();
  }
  const int32_t cold = fake_next_token(fake_prefix_of(request(1, 60).prompt_token_ids), 0);
  wire::AddRequest again = request(1, 60, 1);
  again.key = RequestKey{7};
  scheduler.add(kFront, again, Instant{}, outputs);
  scheduler.add(kFront, request(9, 8, 1), Instant{}, outputs);
  worker.lose_all_moves();
  step();
  ASSERT_GT(worker.failed_loads(), 0u);
  ASSERT_EQ(taken.size(), 1u) << "the other one has its token";
  EXPECT_EQ(taken[0].key, RequestKey{9});
  step();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].token_ids, std::vector<int32_t>{cold});
  EXPECT_EQ(taken[0].cached_prompt_tokens, 0u);
  EXPECT_GE(scheduler.stats().store_lost_blocks, worker.failed_loads());
}

TEST(SchedulerOffload, a_result_that_loses_an_unknown_slot_is_refused) {
  SchedulerBench bench(store_config());
  bench.add(request(1, 8));
  ASSERT_NE(bench.scheduler.schedule(Instant{}), nullptr);
  wire::StepResult result{.step = StepId{1}, .row_token = {5}};
  result.lost_slots = {64};
  StepOutputs outputs;
  EXPECT_EQ(bench.scheduler.on_result(result, Instant{}, outputs).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::engine
