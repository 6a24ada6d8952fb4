// Goal: the scheduler's rules one by one, on hand-made steps. (All of them at once, at random:
// scheduler_property_test.cc.)
#include "engine_core/scheduler.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "engine_core/scheduler_bench_for_test.h"

namespace {
uint64_t allocations = 0;
}  // namespace

// Not inlined: gcc would take the pair for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace trireme::engine {
namespace {

SchedulerConfig config() { return small_config(); }
using Bench = SchedulerBench;
using Counts = std::vector<uint32_t>;

TEST(Scheduler, a_prompt_is_computed_and_its_first_token_sampled_in_one_step) {
  Bench bench(config());
  bench.add(request(1, 10));
  const wire::StepInput step = bench.schedule();
  ASSERT_EQ(step.new_sequences.size(), 1u);
  EXPECT_EQ(step.new_sequences[0].block_ids.size(), 3u);
  EXPECT_EQ(step.row_count, Counts{10});
  EXPECT_EQ(step.row_flags, std::vector<uint8_t>{wire::kRowSamples});
  EXPECT_EQ(bench.collect().at(0).token_ids.size(), 1u);
  const wire::StepInput next = bench.schedule();
  EXPECT_TRUE(next.new_sequences.empty());
  EXPECT_EQ(next.row_start, Counts{10});
  EXPECT_EQ(next.row_count, Counts{1});
}

TEST(Scheduler, a_long_prompt_does_not_block_a_short_one) {
  Bench bench(config());
  bench.add(request(1, 200));
  bench.add(request(2, 8));
  const wire::StepInput step = bench.schedule();
  EXPECT_EQ(step.row_count, (Counts{56, 8})) << "half at first, then what the short one left";
  EXPECT_EQ(bench.collect().at(0).key, RequestKey{2});
}

TEST(Scheduler, decodes_go_before_prompts) {
  Bench bench(config());
  bench.add(request(1, 4));
  bench.step();
  bench.add(request(2, 200));
  EXPECT_EQ(bench.schedule().row_count, (Counts{1, 63}));
}

TEST(Scheduler, without_chunked_prefill_a_prompt_waits_for_a_whole_step) {
  SchedulerConfig whole = config();
  whole.chunked_prefill = false;
  Bench bench(whole);
  bench.add(request(1, 40));
  bench.add(request(2, 40));
  EXPECT_EQ(bench.schedule().row_count, Counts{40});
  bench.collect();
  EXPECT_EQ(bench.schedule().row_count, (Counts{1, 40}));
  bench.add(request(3, 65));
  bench.collect();
  EXPECT_EQ(bench.scheduler.request_count(), 2u) << "longer than any step: refused";
}

TEST(Scheduler, the_next_step_does_not_wait_for_the_last_ones_token) {
  Bench bench(config());
  bench.add(request(1, 4));
  bench.schedule();
  const wire::StepInput ahead = bench.schedule();
  EXPECT_EQ(ahead.row_start, Counts{4});
  EXPECT_EQ(ahead.row_known_count, Counts{0}) << "its worker knows the token";
}

TEST(Scheduler, a_request_that_ended_in_the_step_before_loses_its_surplus_token) {
  Bench bench(config());
  wire::AddRequest ends = request(1, 4);
  ends.sampling.stop_token_ids = {fake_next_token(fake_prefix_of(ends.prompt_token_ids), 0)};
  bench.add(ends);
  bench.schedule();
  bench.schedule();
  EXPECT_EQ(bench.collect().at(0).finish_reason, wire::FinishReason::kStop);
  EXPECT_TRUE(bench.collect().empty());
  bench.add(request(2, 4));
  EXPECT_EQ(bench.schedule().freed_slots, Counts{0});
}

TEST(Scheduler, no_step_is_made_beyond_a_known_length) {
  Bench bench(config());
  bench.add(request(1, 4, 1));
  bench.schedule();
  EXPECT_TRUE(bench.schedule().row_slot.empty());
}

TEST(Scheduler, a_pipeline_gets_its_token_from_the_engine) {
  SchedulerConfig staged = config();
  staged.pipeline_stages = 2;
  Bench bench(staged);
  bench.add(request(1, 4));
  bench.schedule();
  EXPECT_TRUE(bench.schedule().row_slot.empty()) << "its token is not known yet";
  const int32_t token = bench.collect().at(0).token_ids.at(0);
  const wire::StepInput next = bench.schedule();
  EXPECT_EQ(next.row_known_start, Counts{4});
  EXPECT_EQ(next.known_tokens, std::vector<int32_t>{token});
}

TEST(Scheduler, equal_prompts_share_all_blocks_but_the_one_of_the_last_token) {
  Bench bench(config());
  bench.add(request(1, 12, 1));
  bench.step();
  wire::AddRequest same = request(1, 12, 1);
  same.key = RequestKey{2};
  bench.add(same);
  EXPECT_EQ(bench.schedule().row_start, Counts{8});
  EXPECT_EQ(bench.collect().at(0).cached_prompt_tokens, 8u);
  EXPECT_EQ(bench.scheduler.stats().prefix_hit_tokens, 8u);
  same.key = RequestKey{3};
  same.cache_salt = "other";
  bench.add(same);
  EXPECT_EQ(bench.schedule().row_start, Counts{0});
}

TEST(Scheduler, the_prompt_that_was_used_longest_ago_is_forgotten_first) {
  Bench bench(config());
  const auto cached_of = [&](uint64_t key, uint64_t tokens_of, uint32_t prompt_count) {
    wire::AddRequest added = request(tokens_of, prompt_count, 1);
    added.key = RequestKey{key};
    bench.add(added);
    while (true) {
      if (const auto outputs = bench.step(); !outputs.empty())
        return outputs[0].cached_prompt_tokens;
    }
  };
  EXPECT_EQ(cached_of(1, 1, 80), 0u);
  EXPECT_EQ(cached_of(2, 2, 80), 0u);
  EXPECT_EQ(cached_of(3, 1, 80), 76u);
  EXPECT_EQ(cached_of(4, 3, 120), 0u) << "for which 30 of 64 blocks are needed, 24 are empty";
  EXPECT_EQ(cached_of(5, 1, 80), 76u);
  EXPECT_LT(cached_of(6, 2, 80), 76u);
}

TEST(Scheduler, prompt_logprobs_need_the_whole_prompt_computed) {
  Bench bench(config());
  bench.add(request(1, 12, 1));
  bench.step();
  wire::AddRequest same = request(1, 12, 1);
  same.key = RequestKey{2};
  same.sampling.prompt_logprobs = 1;
  bench.add(same);
  EXPECT_EQ(bench.schedule().row_start, Counts{0});
  EXPECT_EQ(bench.collect().at(0).prompt_logprobs.size(), 11u);
}

TEST(Scheduler, the_last_in_order_is_preempted_and_comes_back_with_its_tokens) {
  SchedulerConfig tight = config();
  tight.kv.block_count = 6;
  tight.model_tokens_max = 24;
  tight.policy = SchedulingPolicy::kPriority;
  Bench bench(tight);
  wire::AddRequest low = request(1, 11);
  low.priority = 5;
  bench.add(low);
  bench.step();
  bench.add(request(2, 8));
  for (int i = 0; i < 6; ++i) bench.step();
  EXPECT_EQ(bench.scheduler.stats().preemptions, 1u);
  EXPECT_EQ(bench.scheduler.stats().waiting, 1u);
  ASSERT_TRUE(bench.scheduler.abort(kFront, RequestKey{2}));
  const wire::StepInput back = bench.schedule();
  ASSERT_EQ(back.new_sequences.size(), 1u);
  EXPECT_EQ(back.new_sequences[0].prompt_count, 11u);
  EXPECT_GT(back.new_sequences[0].token_ids.size(), 11u);
}

TEST(Scheduler, smaller_priority_is_admitted_first) {
  SchedulerConfig one = config();
  one.sequences_max = 1;
  one.policy = SchedulingPolicy::kPriority;
  Bench bench(one);
  wire::AddRequest later = request(1, 4, 1);
  later.priority = 1;
  bench.add(later);
  bench.add(request(2, 4, 1));
  EXPECT_EQ(bench.step().at(0).key, RequestKey{2});
  EXPECT_EQ(bench.step().at(0).key, RequestKey{1});
}

TEST(Scheduler, too_long_a_prompt_is_refused_with_both_numbers) {
  Bench bench(config());
  bench.add(request(1, 256));
  const auto outputs = bench.outputs();
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].finish_reason, wire::FinishReason::kError);
  EXPECT_EQ(outputs[0].error_code, static_cast<uint8_t>(StatusCode::kInvalidArgument));
  EXPECT_NE(outputs[0].error.find("256 tokens"), std::string::npos) << outputs[0].error;
  bench.add(request(2, 255));
  EXPECT_TRUE(bench.outputs().empty());
}

TEST(Scheduler, a_resumed_request_goes_on_after_its_last_token) {
  Bench bench(config());
  wire::AddRequest resumed = request(1, 4, 3);
  resumed.output_token_ids = {7, 8};
  bench.add(resumed);
  EXPECT_EQ(bench.schedule().row_count, Counts{6});
  EXPECT_EQ(bench.collect().at(0).finish_reason, wire::FinishReason::kLength);
  resumed.output_token_ids = {7, 8, 9};
  bench.add(resumed);
  EXPECT_EQ(bench.outputs().at(0).finish_reason, wire::FinishReason::kLength) << "over already";
}

TEST(Scheduler, an_aborted_request_is_in_no_later_step) {
  Bench bench(config());
  bench.add(request(1, 4));
  bench.add(request(2, 4));
  bench.step();
  EXPECT_TRUE(bench.scheduler.abort(kFront, RequestKey{1}));
  EXPECT_FALSE(bench.scheduler.abort(kFront, RequestKey{1}));
  EXPECT_EQ(bench.schedule().row_slot.size(), 1u);
  bench.collect();
  bench.scheduler.abort_front_end(kFront);
  EXPECT_FALSE(bench.scheduler.has_requests());
  bench.scheduler.check_invariants();
}

TEST(Scheduler, a_paused_engine_makes_no_step_and_loses_nothing) {
  Bench bench(config());
  bench.add(request(1, 4));
  bench.scheduler.set_pause(Pause::kAll);
  EXPECT_TRUE(bench.schedule().row_slot.empty());
  bench.scheduler.set_pause(Pause::kNone);
  EXPECT_EQ(bench.schedule().row_slot.size(), 1u);
}

TEST(Scheduler, all_that_run_can_be_preempted_and_go_on_with_the_same_tokens) {
  Bench bench(config());
  bench.add(request(1, 4));
  bench.add(request(2, 4));
  bench.step();
  bench.step();
  bench.scheduler.set_pause(Pause::kAll);
  bench.scheduler.preempt_all();
  EXPECT_EQ(bench.scheduler.stats().running, 0u);
  EXPECT_EQ(bench.scheduler.stats().waiting, 2u);
  EXPECT_TRUE(bench.scheduler.reset_prefix_cache());
  bench.scheduler.check_invariants();
  bench.scheduler.set_pause(Pause::kNone);
  EXPECT_EQ(bench.schedule().new_sequences.size(), 2u);
  bench.collect();
  bench.scheduler.check_invariants();
}

TEST(Scheduler, a_result_that_does_not_fit_the_step_is_an_error) {
  Scheduler scheduler(config());
  StepOutputs outputs;
  scheduler.add(kFront, request(1, 4), Instant{}, outputs);
  ASSERT_NE(scheduler.schedule(Instant{}), nullptr);
  wire::StepResult result{.step = StepId{2}, .row_token = {5}};
  EXPECT_EQ(scheduler.on_result(result, Instant{}, outputs).code(), StatusCode::kDataLoss);
  result = {.step = StepId{1}, .row_token = {5, 6}};
  EXPECT_EQ(scheduler.on_result(result, Instant{}, outputs).code(), StatusCode::kDataLoss);
  result = {.step = StepId{1}, .row_token = {wire::kNoToken}};
  EXPECT_EQ(scheduler.on_result(result, Instant{}, outputs).code(), StatusCode::kDataLoss);
  result = {.step = StepId{1}, .row_token = {5}};
  EXPECT_TRUE(scheduler.on_result(result, Instant{}, outputs).ok());
}

TEST(Scheduler, the_first_output_says_how_long_it_waited_and_how_long_its_prefill_took) {
  using std::chrono::milliseconds;
  SchedulerConfig chunked = config();
  chunked.batched_tokens_max = 64;
  Scheduler scheduler(chunked);
  StepOutputs outputs;
  const Instant start{};
  scheduler.add(kFront, request(1, 100), start, outputs);
  std::vector<wire::EngineOutput> got;
  for (int step = 1; step <= 3; ++step) {  // Two of the prompt, one more token.
    const wire::StepInput* input = scheduler.schedule(start + milliseconds(10 * step));
    ASSERT_NE(input, nullptr);
    wire::StepResult result{.step = input->step, .row_token = {step == 1 ? wire::kNoToken : 5}};
    const Instant end = start + milliseconds(10 * step + 5);
    ASSERT_TRUE(scheduler.on_result(result, end, outputs).ok());
    outputs.take(kFront, got);
    if (step == 1) continue;
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].queue_microseconds, step == 2 ? 10'000u : 0u);
    EXPECT_EQ(got[0].prefill_microseconds, step == 2 ? 15'000u : 0u);
  }
}

TEST(Scheduler, steady_decoding_allocates_nothing) {
  SchedulerConfig steady = config();
  steady.sequences_max = 16;
  steady.kv.block_count = 1024;
  Scheduler scheduler(steady);
  StepOutputs outputs;
  std::vector<wire::EngineOutput> message;
  for (uint64_t key = 0; key < 16; ++key) {
    scheduler.add(kFront, request(key, 4, 200), Instant{}, outputs);
  }
  wire::StepResult result;
  const auto step = [&] {
    const wire::StepInput* input = scheduler.schedule(Instant{});
    result.step = input->step;
    result.row_token.assign(input->row_slot.size(), 11);
    ASSERT_TRUE(scheduler.on_result(result, Instant{}, outputs).ok());
    outputs.take(kFront, message);
  };
  for (int i = 0; i < 130; ++i) step();  // Vectors reach their size.
  const uint64_t before = allocations;
  for (int i = 0; i < 20; ++i) step();
  EXPECT_LE(allocations - before, 16u) << "a growing block table at most, once per sequence";
}

}  // namespace
}  // namespace trireme::engine
