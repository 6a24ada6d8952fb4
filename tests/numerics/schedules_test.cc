// Goal: whatever else an engine does, each request is told what it is told alone, to the bit: in
// any company, at any chunking and order of steps, shared, preempted, guessed for, loaded from a
// store, beside requests that leave. Method: random schedules over the product's scheduler and
// worker with real models; each request against itself in an engine of its own that does none of
// this. A seed is a schedule. What the schedules are meant to do is counted.
#include <gtest/gtest.h>

#include <set>

#include "tests/numerics/engine_model_for_test.h"

namespace trireme {
namespace {

constexpr uint64_t kRequests = 10;
constexpr uint64_t kSeeds = kIsSanitized ? 3 : 24;

// Attention with and without a window, mixtures, a latent cache, caps, learned positions, int8 KV,
// weights in int8 and int4, of a checkpoint and made on load.
std::vector<ModelCase> all_cases() {
  return {{.name = "llama"},
          {.name = "mistral"},
          {.name = "mixtral"},
          {.name = "qwen3_moe"},
          {.name = "deepseek_v3"},
          {.name = "gemma3"},
          {.name = "gpt2"},
          {.name = "gptq_act_order"},
          {.name = "ct_int8"},
          {.name = "qwen2_moe_window", .kv_cache_dtype = "int8"},
          {.name = "deepseek_v2", .kv_cache_dtype = "int8"},
          {.name = "mistral", .quantization = "int4"}};
}

// The seed itself says what there is at all, so that a few seeds have everything.
engine::SchedulerConfig random_config(uint64_t seed, Random& random) {
  engine::SchedulerConfig config = EngineModel::config(1);
  config.sequences_max = 2 + static_cast<uint32_t>(random.below(5));
  config.batched_tokens_max = config.sequences_max + static_cast<uint32_t>(random.below(40));
  config.kv.block_count += static_cast<uint32_t>(random.below(6));  // One sequence fits for sure.
  config.kv.prefix_caching = seed % 3 < 2;
  for (uint64_t& word : config.kv.hash_key) word = random.next();
  if (seed % 3 == 0) config.kv.store_slot_count = 4 + static_cast<uint32_t>(random.below(12));
  if (seed % 2 == 1) {
    config.draft_tokens_max = 1 + static_cast<uint32_t>(random.below(5));
    config.draft_lookup = {.shortest = 1, .longest = 2};
  }
  config.steps_in_flight_max = 1 + static_cast<uint32_t>(random.below(3));
  if (random.below(2) == 0) config.policy = SchedulingPolicy::kPriority;
  config.priority_ageing = std::chrono::milliseconds(random.below(3));
  if (random.below(3) == 0) config.long_prefill_tokens = 5 + static_cast<uint32_t>(random.below(9));
  config.partial_prefills_max = static_cast<uint32_t>(random.below(3));
  config.long_partial_prefills_max = static_cast<uint32_t>(random.below(3));
  return config;
}

class Schedules : public testing::TestWithParam<ModelCase> {
 protected:
  const EngineModel model_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, Schedules, testing::ValuesIn(all_cases()), name_of_case);

// Requests arrive and some leave again, steps are made and results taken in, in any order. Those
// that left.
std::set<uint64_t> run_schedule(EngineForTest& engine,
                                const std::vector<wire::AddRequest>& requests, Random& random) {
  std::set<uint64_t> aborted;
  uint64_t added = 0;
  for (int64_t turn = 0; added < requests.size() || engine.is_busy(); ++turn) {
    const Instant now{std::chrono::milliseconds(turn)};
    const uint64_t choice = random.below(20);
    if (choice < 4 && added < requests.size()) {
      engine.add(requests[added++], now);
    } else if (choice == 4 && added > 0) {
      const RequestKey key{random.below(added)};
      if (aborted.size() < 2 && engine.abort(key)) aborted.insert(key.value);
    } else if (choice < 13) {
      engine.submit(now);
    } else {
      engine.collect();
    }
    if (turn > 100'000) ADD_FAILURE() << "no end in sight";
    if (testing::Test::HasFailure()) return aborted;
  }
  engine.run();
  return aborted;
}

// What the client of a request that left has had until then.
void expect_begins(const Answer& got, const Answer& wanted) {
  ASSERT_EQ(got.reason, wire::FinishReason::kNone);
  const auto begins = [](const auto& whole, const auto& part) {
    return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
  };
  ASSERT_TRUE(begins(wanted.tokens, got.tokens));
  ASSERT_TRUE(begins(wanted.logprobs, got.logprobs));
  ASSERT_TRUE(begins(wanted.prompt_logprobs, got.prompt_logprobs));
}

struct Totals {
  uint64_t preemptions = 0;
  uint64_t hits = 0;
  uint64_t stored_hits = 0;
  uint64_t accepted = 0;
  uint64_t rejected = 0;
  uint64_t aborted = 0;
  uint64_t cut_prompts = 0;
};

TEST_P(Schedules, tell_each_request_what_it_is_told_alone) {
  Totals totals;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed * 1000 + model_.vocabulary_size());
    const engine::SchedulerConfig config = random_config(seed, random);
    const std::vector<wire::AddRequest> requests = model_.random_requests(random, kRequests);
    EngineForTest engine(config, model_.parts(1 + seed % 2));
    const std::set<uint64_t> aborted = run_schedule(engine, requests, random);
    const std::vector<Answer> wanted = model_.answers_alone(requests);
    for (uint64_t key = 0; key < kRequests && !HasFailure(); ++key) {
      SCOPED_TRACE(testing::Message() << "request " << key);
      const auto& expect = aborted.contains(key) ? expect_begins : expect_equal;
      expect(engine.answers().at(key), wanted.at(key));
    }
    if (HasFailure()) return;
    const wire::EngineStats stats = engine.stats();
    totals.preemptions += stats.preemptions;
    totals.hits += stats.prefix_hit_tokens;
    totals.stored_hits += stats.store_hit_tokens;
    totals.accepted += stats.accepted_draft_tokens;
    totals.rejected += stats.draft_tokens - stats.accepted_draft_tokens;
    totals.aborted += aborted.size();
    totals.cut_prompts += engine.cut_prompt_count();
  }
  if (kIsSanitized) return;
  EXPECT_GT(totals.preemptions, 5U);
  EXPECT_GT(totals.hits, 100U);
  EXPECT_GT(totals.stored_hits, 15U);
  EXPECT_GT(totals.accepted, 5U);
  EXPECT_GT(totals.rejected, 5U);
  EXPECT_GT(totals.aborted, 10U);
  EXPECT_GT(totals.cut_prompts, 50U);
}

}  // namespace
}  // namespace trireme
