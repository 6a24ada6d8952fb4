// Goal: the rules of who is computed first: prompts part-way beside one another, and priorities
// that rise with age.
#include <gtest/gtest.h>

#include "engine_core/scheduler_bench_for_test.h"

namespace trireme::engine {
namespace {

using Counts = std::vector<uint32_t>;
using std::chrono::seconds;

SchedulerConfig roomy() {
  SchedulerConfig config = small_config();
  config.sequences_max = 16;
  config.kv.block_count = 1024;
  return config;
}

TEST(Prefill, of_long_prompts_one_is_part_way_and_shorter_ones_pass_the_next) {
  SchedulerBench bench(roomy());
  bench.add(request(1, 200));
  bench.add(request(2, 200));
  bench.add(request(3, 8));
  EXPECT_EQ(bench.schedule().row_count, (Counts{56, 8}));
  EXPECT_EQ(bench.collect().at(0).key, RequestKey{3});
  bench.step();
  bench.step();
  const wire::StepInput step = bench.schedule();  // The end of the first, so the next may begin.
  EXPECT_EQ(step.row_count, (Counts{1, 18, 45}));
  EXPECT_EQ(step.new_sequences.size(), 1u);
}

TEST(Prefill, without_a_limit_of_long_ones_they_share_the_step) {
  SchedulerConfig any = roomy();
  any.long_partial_prefills_max = 0;
  SchedulerBench bench(any);
  bench.add(request(1, 200));
  bench.add(request(2, 200));
  EXPECT_EQ(bench.schedule().row_count, (Counts{32, 32}));
}

TEST(Prefill, a_long_prompt_takes_no_more_than_the_threshold_of_a_step) {
  SchedulerConfig capped = small_config();
  capped.long_prefill_tokens = 20;
  SchedulerBench bench(capped);
  bench.add(request(1, 50));
  EXPECT_EQ(bench.schedule().row_count, Counts{20}) << "though nobody else needs the step";
  bench.add(request(2, 19));
  bench.collect();
  EXPECT_EQ(bench.schedule().row_count, (Counts{20, 19}));
  bench.collect();
  EXPECT_EQ(bench.schedule().row_count, (Counts{1, 10}));
}

TEST(Prefill, beyond_the_limit_of_partial_ones_only_whole_prompts_are_admitted) {
  SchedulerConfig one = small_config();
  one.partial_prefills_max = 1;
  one.long_partial_prefills_max = 0;
  SchedulerBench bench(one);
  bench.add(request(1, 200));
  bench.add(request(2, 40));
  EXPECT_EQ(bench.schedule().row_count, Counts{64}) << "half would leave it part-way";
  bench.collect();
  bench.scheduler.abort(kFront, RequestKey{2});
  bench.add(request(3, 24));
  EXPECT_EQ(bench.schedule().row_count, (Counts{40, 24}));
}

TEST(Prefill, many_long_prompts_delay_a_short_one_by_one_step_at_most) {
  SchedulerBench bench(roomy());
  for (uint64_t key = 0; key < 10; ++key) bench.add(request(key, 200));
  bench.schedule();
  bench.add(request(99, 8));
  bench.collect();
  EXPECT_EQ(bench.step().at(0).key, RequestKey{99});
}

SchedulerConfig one_at_a_time(Duration ageing) {
  SchedulerConfig config = small_config();
  config.sequences_max = 1;
  config.policy = SchedulingPolicy::kPriority;
  config.priority_ageing = ageing;
  return config;
}

wire::AddRequest of_priority(uint64_t key, int32_t priority) {
  wire::AddRequest added = request(key, 4, 1);
  added.priority = priority;
  return added;
}

TEST(Priority, a_request_that_waited_long_enough_for_its_level_goes_first) {
  SchedulerBench bench(one_at_a_time(seconds(10)));
  bench.add(of_priority(1, 2), Instant{});
  bench.add(of_priority(2, 0), Instant{seconds(19)});
  bench.add(of_priority(3, 0), Instant{seconds(21)});
  bench.add(of_priority(4, 1), Instant{seconds(9)});
  EXPECT_EQ(bench.step().at(0).key, RequestKey{2});
  EXPECT_EQ(bench.step().at(0).key, RequestKey{4});
  EXPECT_EQ(bench.step().at(0).key, RequestKey{1}) << "20 s for two levels";
  EXPECT_EQ(bench.step().at(0).key, RequestKey{3});
}

TEST(Priority, at_the_same_age_the_smaller_one_goes_first) {
  SchedulerBench bench(one_at_a_time(seconds(10)));
  bench.add(of_priority(1, INT32_MAX));
  bench.add(of_priority(2, 1));
  bench.add(of_priority(3, -1));
  bench.add(of_priority(4, INT32_MIN));
  for (const uint64_t key : {4, 3, 2, 1}) EXPECT_EQ(bench.step().at(0).key, RequestKey{key});
}

TEST(Priority, a_stream_of_urgent_requests_starves_nobody) {
  SchedulerBench bench(one_at_a_time(seconds(10)));
  bench.add(of_priority(1000, 5));
  for (uint64_t second = 0; second < 100; ++second) {
    bench.add(of_priority(second, 0), Instant{seconds(second)});
    if (bench.step().at(0).key == RequestKey{1000}) {
      EXPECT_EQ(second, 50u);
      return;
    }
  }
  FAIL() << "it starved";
}

TEST(Priority, without_ageing_it_is_strict) {
  SchedulerBench bench(one_at_a_time(Duration::zero()));
  bench.add(of_priority(1, 1));
  bench.add(of_priority(2, 0), Instant{seconds(100'000)});
  EXPECT_EQ(bench.step().at(0).key, RequestKey{2});
}

}  // namespace
}  // namespace trireme::engine
