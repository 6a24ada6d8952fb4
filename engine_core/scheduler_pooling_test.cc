// Goal: the rules of requests that pool, one by one, on hand-made steps.
#include <gtest/gtest.h>

#include "engine_core/scheduler_bench_for_test.h"

namespace trireme::engine {
namespace {

wire::AddRequest pooling(uint64_t key, uint32_t prompt_count) {
  wire::AddRequest added = request(key, prompt_count);
  added.sampling.pooling = wire::Pooling::kMean;
  return added;
}

TEST(SchedulerPooling, a_prompt_gives_its_vector_and_ends) {
  SchedulerBench bench(small_config());
  const wire::AddRequest added = pooling(1, 10);
  bench.add(added);
  EXPECT_EQ(bench.schedule().row_flags, std::vector<uint8_t>{wire::kRowSamples});
  EXPECT_TRUE(bench.schedule().row_slot.empty()) << "nothing comes after its prompt";
  const auto outputs = bench.collect();
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].pooled,
            std::vector<float>{fake_vector(fake_prefix_of(added.prompt_token_ids))});
  EXPECT_EQ(outputs[0].finish_reason, wire::FinishReason::kStop);
  EXPECT_TRUE(outputs[0].token_ids.empty());
  EXPECT_FALSE(bench.scheduler.has_requests());
  EXPECT_EQ(bench.scheduler.stats().prompt_tokens, 10u);
  EXPECT_EQ(bench.scheduler.stats().generation_tokens, 0u);
}

TEST(SchedulerPooling, it_takes_nothing_from_the_prefix_cache_and_leaves_nothing_there) {
  SchedulerBench bench(small_config());
  bench.add(pooling(1, 20));
  bench.step();
  bench.add(request(1, 20, 1));
  EXPECT_EQ(bench.schedule().row_start, std::vector<uint32_t>{0}) << "nothing was left";
  bench.collect();
  bench.add(pooling(1, 20));
  EXPECT_EQ(bench.schedule().row_start, std::vector<uint32_t>{0});
  bench.collect();
  EXPECT_EQ(bench.scheduler.stats().prefix_hit_tokens, 0u);
}

TEST(SchedulerPooling, a_long_prompt_goes_in_chunks_beside_others) {
  SchedulerBench bench(small_config());
  const wire::AddRequest added = pooling(1, 100);
  bench.add(added);
  EXPECT_EQ(bench.schedule().row_flags, std::vector<uint8_t>{0});
  EXPECT_TRUE(bench.collect().empty());
  bench.schedule();
  EXPECT_EQ(bench.collect().at(0).pooled,
            std::vector<float>{fake_vector(fake_prefix_of(added.prompt_token_ids))});
}

TEST(SchedulerPooling, a_prompt_may_fill_the_model) {
  SchedulerConfig config = small_config();
  config.batched_tokens_max = config.model_tokens_max;
  SchedulerBench bench(config);
  bench.add(pooling(1, config.model_tokens_max));
  EXPECT_EQ(bench.step().at(0).pooled.size(), 1u);
  bench.add(pooling(1, config.model_tokens_max + 1));
  EXPECT_EQ(bench.outputs().at(0).finish_reason, wire::FinishReason::kError);
}

TEST(SchedulerPooling, a_worker_that_gives_no_vector_fails_the_request_alone) {
  Scheduler scheduler(small_config());
  StepOutputs out;
  ASSERT_TRUE(scheduler.add(kFront, pooling(1, 4), {}, out));
  const wire::StepInput* step = scheduler.schedule({});
  ASSERT_NE(step, nullptr);
  wire::StepResult result{.step = step->step, .row_token = {5}};
  ASSERT_TRUE(scheduler.on_result(result, {}, out).ok());
  std::vector<wire::EngineOutput> outputs;
  out.take(kFront, outputs);
  EXPECT_EQ(outputs.back().error, "The worker gave no vector.");
}

TEST(SchedulerPooling, a_vector_of_a_row_that_is_not_there_breaks_the_protocol) {
  Scheduler scheduler(small_config());
  StepOutputs out;
  ASSERT_TRUE(scheduler.add(kFront, pooling(1, 4), {}, out));
  const wire::StepInput* step = scheduler.schedule({});
  wire::StepResult result{
      .step = step->step, .row_token = {wire::kNoToken}, .pooled = {{1, {0.5F}}}};
  EXPECT_EQ(scheduler.on_result(result, {}, out).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme::engine
