// Goal: the rules of who is computed first: prompts part-way beside one another, and priorities
// that rise with age.
#include <gtest/gtest.h>

#include <algorithm>

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

wire::AddRequest long_of_priority(uint64_t key, int32_t priority, uint32_t prompt_count = 200) {
  wire::AddRequest added = request(key, prompt_count, 1);
  added.priority = priority;
  return added;
}

// Its prompt begins with that of request(tokens_of, n) for all n.
wire::AddRequest of_tokens(uint64_t key, uint64_t tokens_of, uint32_t prompt_count) {
  wire::AddRequest added = request(tokens_of, prompt_count, 1);
  added.key = RequestKey{key};
  return added;
}

SchedulerConfig by_priority() {
  SchedulerConfig config = roomy();
  config.policy = SchedulingPolicy::kPriority;
  return config;
}

TEST(LongPrompts, one_that_goes_before_the_part_way_one_does_not_wait_for_it) {
  SchedulerBench bench(by_priority());
  bench.add(long_of_priority(1, 5));
  bench.step();
  bench.add(long_of_priority(2, 9));
  bench.add(long_of_priority(3, 0));
  const wire::StepInput step = bench.schedule();
  ASSERT_EQ(step.new_sequences.size(), 1u) << "but not the one behind it";
  EXPECT_EQ(step.new_sequences[0].token_ids, request(3, 200).prompt_token_ids);
  std::vector<RequestKey> ended;
  for (const auto& output : bench.collect()) ended.push_back(output.key);
  for (int i = 0; i < 12; ++i) {
    for (const auto& output : bench.step()) ended.push_back(output.key);
    if (!bench.scheduler.has_requests()) break;
  }
  EXPECT_EQ(ended, (std::vector{RequestKey{3}, RequestKey{1}, RequestKey{2}}));
}

TEST(LongPrompts, partial_ones_hold_back_only_what_stands_behind_them) {
  SchedulerConfig one = by_priority();
  one.partial_prefills_max = 1;
  one.long_partial_prefills_max = 0;
  SchedulerBench bench(one);
  bench.add(long_of_priority(1, 5));
  bench.step();
  bench.add(long_of_priority(2, 0));
  EXPECT_EQ(bench.schedule().new_sequences.size(), 1u);
}

TEST(LongPrompts, of_equal_priority_the_first_to_come_is_the_first_to_begin) {
  SchedulerBench bench(by_priority());
  for (const uint64_t key : {4, 2, 3}) bench.add(long_of_priority(key, 1));
  std::vector<RequestKey> ended;
  while (bench.scheduler.has_requests()) {
    for (const auto& output : bench.step()) ended.push_back(output.key);
  }
  EXPECT_EQ(ended, (std::vector{RequestKey{4}, RequestKey{2}, RequestKey{3}}));
}

TEST(LongPrompts, a_decode_is_in_every_step_beside_them) {
  SchedulerBench bench(by_priority());
  wire::AddRequest decoding = request(1, 4);
  decoding.priority = 9;
  bench.add(decoding);
  bench.step();
  for (uint64_t key = 2; key < 7; ++key) {
    bench.add(long_of_priority(key, -static_cast<int32_t>(key)));
    const auto outputs = bench.step();
    EXPECT_TRUE(std::ranges::any_of(outputs, [](const auto& output) {
      return output.key == RequestKey{1};
    })) << key;
  }
}

TEST(LongPrompts, one_whose_history_is_cached_is_short) {
  SchedulerBench bench(roomy());
  bench.add(of_tokens(1, 1, 150));
  while (bench.scheduler.has_requests()) bench.step();
  bench.add(request(2, 200));
  bench.step();
  bench.add(of_tokens(3, 1, 180));
  const wire::StepInput step = bench.schedule();
  ASSERT_EQ(step.new_sequences.size(), 1u);
  EXPECT_EQ(step.row_start, (Counts{64, 148}));
}

TEST(LongPrompts, one_whose_beginning_was_computed_while_it_waited_is_short) {
  SchedulerBench bench(roomy());
  bench.add(of_tokens(1, 1, 150));
  bench.add(of_tokens(2, 2, 200));
  bench.add(of_tokens(3, 1, 180));
  EXPECT_EQ(bench.schedule().new_sequences.size(), 1u);
  bench.collect();
  std::vector<RequestKey> ended;
  while (bench.scheduler.has_requests()) {
    for (const auto& output : bench.step()) ended.push_back(output.key);
  }
  EXPECT_EQ(ended, (std::vector{RequestKey{1}, RequestKey{3}, RequestKey{2}}));
}

TEST(LongPrompts, one_whose_history_was_forgotten_while_it_waited_is_long) {
  SchedulerBench bench(by_priority());
  bench.add(of_tokens(1, 1, 150));
  while (bench.scheduler.has_requests()) bench.step();
  bench.add(of_tokens(2, 1, 180));
  ASSERT_TRUE(bench.scheduler.reset_prefix_cache());
  bench.add(long_of_priority(3, -1));
  EXPECT_EQ(bench.schedule().new_sequences.size(), 1u);
  bench.scheduler.check_invariants();
  bench.collect();
  EXPECT_TRUE(bench.schedule().new_sequences.empty());
}

TEST(LongPrompts, one_that_is_not_to_be_found_in_the_cache_is_long) {
  SchedulerBench bench(roomy());
  bench.add(of_tokens(1, 1, 150));
  while (bench.scheduler.has_requests()) bench.step();
  bench.add(request(2, 200));
  wire::AddRequest salted = of_tokens(3, 1, 180);
  salted.cache_salt = "other";
  bench.add(salted);
  wire::AddRequest scored = of_tokens(4, 1, 180);
  scored.sampling.prompt_logprobs = 1;
  bench.add(scored);
  EXPECT_EQ(bench.schedule().new_sequences.size(), 1u);
}

TEST(LongPrompts, one_that_was_preempted_does_not_wait_behind_a_newer_one) {
  SchedulerConfig tight = by_priority();
  tight.kv.block_count = 26 + 3 + 63;
  tight.kv.prefix_caching = false;
  SchedulerBench bench(tight);
  wire::AddRequest old = request(1, 103);
  old.priority = 5;
  bench.add(old);
  bench.add(request(2, 8));
  bench.step();
  bench.step();  // Both decode.
  bench.add(request(3, 250, 1));
  int steps = 0;
  while (bench.scheduler.stats().preemptions == 0 && ++steps < 10) bench.step();
  ASSERT_EQ(bench.scheduler.stats().running, 2u);
  bench.scheduler.abort(kFront, RequestKey{2});
  const wire::StepInput step = bench.schedule();
  EXPECT_EQ(step.row_flags.at(0), 0) << "the newer one is part-way still";
  ASSERT_EQ(step.new_sequences.size(), 1u);
  EXPECT_EQ(step.new_sequences[0].prompt_count, 103u);
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

TEST(Priority, a_stream_of_urgent_long_prompts_starves_no_long_one) {
  SchedulerConfig config = by_priority();
  config.priority_ageing = seconds(10);
  SchedulerBench bench(config);
  bench.add(long_of_priority(1000, 2));
  for (uint64_t second = 0; second < 60; ++second) {
    // Four steps' worth of prompts, and four steps, a second.
    bench.add(long_of_priority(second, 0, 255), Instant{seconds(second)});
    for (int i = 0; i < 4; ++i) {
      for (const auto& output : bench.step()) {
        if (output.key != RequestKey{1000}) continue;
        EXPECT_LE(second, 25u);
        return;
      }
    }
  }
  FAIL() << "it starved";
}

}  // namespace
}  // namespace trireme::engine
