// Goal: whatever arrives, is aborted, preempted, shared, cut, guessed or resumed, in whatever order
// steps and results interleave, wherever its blocks have been meanwhile and whatever of them was
// lost there, each request gets exactly the tokens of an undisturbed run; and in the end no block,
// slot or request is left. Method: random histories over FakeWorker; a seed is a history.
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "engine_core/fake_worker_for_test.h"
#include "engine_core/scheduler.h"

namespace trireme::engine {
namespace {

struct Expected {
  wire::AddRequest request;
  std::vector<int32_t> tokens;  // Those still to come.
  std::vector<float> pooled;    // In their place.
  Finish finish;
  bool fails = false;
  std::vector<int32_t> got;
  std::vector<int32_t> got_prompt;
  bool is_over = false;
};

SchedulerConfig random_config(Random& random) {
  SchedulerConfig config;
  config.kv.block_tokens = 1 + static_cast<uint32_t>(random.below(6));
  config.model_tokens_max = 20 + static_cast<uint32_t>(random.below(40));
  const uint32_t blocks_min =
      (config.model_tokens_max + config.kv.block_tokens - 1) / config.kv.block_tokens;
  config.kv.block_count = blocks_min + static_cast<uint32_t>(random.below(blocks_min * 2));
  config.kv.prefix_caching = random.below(4) > 0;
  for (uint64_t& word : config.kv.hash_key) word = random.next();
  config.sequences_max = 1 + static_cast<uint32_t>(random.below(6));
  config.batched_tokens_max = 1 + static_cast<uint32_t>(random.below(40));
  config.chunked_prefill = random.below(4) > 0;
  if (!config.chunked_prefill) config.batched_tokens_max = config.model_tokens_max;
  config.policy = random.below(2) > 0 ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs;
  config.steps_in_flight_max = 1 + static_cast<uint32_t>(random.below(3));
  config.pipeline_stages = random.below(3) == 0 ? 2 : 1;
  config.long_prefill_tokens =
      random.below(3) == 0 ? 1 + static_cast<uint32_t>(random.below(20)) : 0;
  config.partial_prefills_max = static_cast<uint32_t>(random.below(4));
  config.long_partial_prefills_max = static_cast<uint32_t>(random.below(3));
  config.priority_ageing = std::chrono::milliseconds(random.below(3));
  if (config.kv.prefix_caching && random.below(2) > 0) {
    config.kv.store_slot_count = 1 + static_cast<uint32_t>(random.below(40));
    config.store_slot_bytes = 100;
  }
  if (random.below(2) > 0) {
    config.draft_tokens_max = 1 + static_cast<uint32_t>(random.below(6));
    config.draft_lookup.shortest = 1 + static_cast<uint32_t>(random.below(3));
    config.draft_lookup.longest =
        config.draft_lookup.shortest + static_cast<uint32_t>(random.below(3));
    if (random.below(2) > 0) {
      config.draft_model_tokens_max = 10 + static_cast<uint32_t>(random.below(60));
    }
  }
  return config;
}

wire::AddRequest random_request(Random& random, uint64_t key, uint32_t model_tokens_max) {
  wire::AddRequest request;
  request.key = RequestKey{key};
  // Few sources, so that many prompts share a prefix.
  const uint64_t source = random.below(3);
  const uint64_t count = 1 + random.below(model_tokens_max - 1);
  for (uint64_t i = 0; i < count; ++i) {
    request.prompt_token_ids.push_back(static_cast<int32_t>(mix64(source * 1000 + i) % 40));
  }
  if (random.below(2) > 0) request.prompt_token_ids.back() = static_cast<int32_t>(random.below(40));
  request.priority = static_cast<int32_t>(random.below(3));
  if (random.below(5) == 0) request.cache_salt = "salt";
  request.sampling.output_tokens_max = static_cast<uint32_t>(random.below(30));
  request.sampling.output_tokens_min = static_cast<uint32_t>(random.below(5));
  request.sampling.ignore_eos = random.below(4) == 0;
  request.sampling.eos_token_ids = {1, 2};
  request.sampling.stop_token_ids = {3};
  if (random.below(6) == 0) request.sampling.prompt_logprobs = 0;
  if (random.below(8) == 0) request.sampling.pooling = wire::Pooling::kMean;
  return request;
}

// What an undisturbed run gives.
Expected expect(wire::AddRequest request, uint32_t model_tokens_max, uint32_t bad_one_in,
                bool repeats) {
  Expected expected;
  std::vector<int32_t> tokens = request.prompt_token_ids;
  const auto prompt_count = static_cast<uint32_t>(tokens.size());
  expected.finish.reason = wire::FinishReason::kNone;
  while (expected.finish.reason == wire::FinishReason::kNone) {
    const int32_t next = fake_next_token(fake_prefix_of(tokens), bad_one_in, repeats);
    if (next == wire::kBadLogits) {
      expected.fails = true;
      break;
    }
    if (request.sampling.pooling != wire::Pooling::kNone) {
      expected.pooled = {fake_vector(fake_prefix_of(tokens))};
      expected.finish.reason = wire::FinishReason::kStop;
      break;
    }
    if (request.sampling.output_tokens_max == 0) {
      expected.finish.reason = wire::FinishReason::kLength;
      break;
    }
    tokens.push_back(next);
    expected.finish = check_finish(request.sampling, tokens, prompt_count, model_tokens_max);
  }
  expected.tokens.assign(tokens.begin() + prompt_count, tokens.end());
  expected.request = std::move(request);
  return expected;
}

// Hands over some of the output as if another engine had made it.
void make_resumed(Expected& expected, Random& random) {
  if (expected.tokens.size() < 2) return;
  const auto count = static_cast<long>(1 + random.below(expected.tokens.size() - 1));
  expected.request.output_token_ids.assign(expected.tokens.begin(),
                                           expected.tokens.begin() + count);
  expected.tokens.erase(expected.tokens.begin(), expected.tokens.begin() + count);
}

class History {
 public:
  explicit History(uint64_t seed)
      : random_(seed),
        config_(random_config(random_)),
        bad_one_in_(random_.below(4) == 0 ? 60 : 0),
        repeats_(random_.below(2) > 0),
        scheduler_(config_),
        worker_({config_.kv.block_count, config_.kv.block_tokens, config_.pipeline_stages == 1,
                 bad_one_in_, repeats_, config_.kv.store_slot_count,
                 random_.below(2) > 0 ? 0 : 1 + static_cast<uint32_t>(random_.below(20))}) {}

  void run() {
    const uint64_t request_count = 1 + random_.below(20);
    uint64_t added = 0;
    for (int turn = 0; turn < 20000; ++turn) {
      const uint64_t choice = random_.below(10);
      if (choice < 2 && added < request_count) {
        add(added++);
      } else if (choice == 2 && random_.below(6) == 0 && !requests_.empty()) {
        abort(requests_[random_.below(requests_.size())].request.key);
      } else if (choice < 7) {
        schedule();
      } else {
        collect();
      }
      ASSERT_TRUE(worker_.problem().empty()) << worker_.problem();
      if (turn % 8 == 0) scheduler_.check_invariants();
      if (HasFatalFailure()) return;
      if (added == request_count && !scheduler_.has_requests() && results_.empty()) return finish();
    }
    FAIL() << "no end in sight: " << scheduler_.request_count() << " requests left";
  }

  wire::EngineStats stats() const { return scheduler_.stats(); }
  bool has_draft_model() const { return config_.draft_model_tokens_max > 0; }
  uint64_t failed_loads() const { return worker_.failed_loads(); }

 private:
  static bool HasFatalFailure() { return testing::Test::HasFatalFailure(); }

  void add(uint64_t key) {
    Expected expected = expect(random_request(random_, key, config_.model_tokens_max),
                               config_.model_tokens_max, bad_one_in_, repeats_);
    if (random_.below(4) == 0) make_resumed(expected, random_);
    requests_.push_back(expected);
    const Instant now{std::chrono::milliseconds(key)};
    ASSERT_TRUE(scheduler_.add(front_end_of(key), expected.request, now, outputs_));
    take_outputs();
  }

  void abort(RequestKey key) {
    const bool was_live = scheduler_.abort(front_end_of(key.value), key);
    ASSERT_EQ(was_live, !requests_[key.value].is_over);
    requests_[key.value].is_over = true;
    requests_[key.value].fails = true;
  }

  void schedule() {
    if (scheduler_.steps_in_flight() == config_.steps_in_flight_max) return;
    const wire::StepInput* step = scheduler_.schedule(Instant{});
    if (step == nullptr) return;
    uint32_t tokens = 0;
    for (const uint32_t count : step->row_count) tokens += count;
    for (const uint32_t count : step->row_draft_count) tokens += count;
    ASSERT_LE(tokens, config_.batched_tokens_max);
    for (const uint32_t count : step->row_draft_count) ASSERT_LE(count, config_.draft_tokens_max);
    ASSERT_LE(step->row_slot.size(), config_.sequences_max);
    results_.push_back(worker_.execute(*step));
  }

  void collect() {
    if (results_.empty()) return;
    const Status status = scheduler_.on_result(results_.front(), Instant{}, outputs_);
    ASSERT_TRUE(status.ok()) << status;
    results_.pop_front();
    take_outputs();
  }

  void take_outputs() {
    for (uint32_t front_end = 0; front_end < 2; ++front_end) {
      std::vector<wire::EngineOutput> outputs;
      outputs_.take(FrontEndId{front_end}, outputs);
      for (const auto& output : outputs) take(output, front_end);
    }
  }

  void take(const wire::EngineOutput& output, uint32_t front_end) {
    ASSERT_LT(output.key.value, requests_.size());
    Expected& request = requests_[output.key.value];
    ASSERT_EQ(front_end_of(output.key.value), FrontEndId{front_end});
    ASSERT_FALSE(request.is_over) << "an output after the end";
    request.got.insert(request.got.end(), output.token_ids.begin(), output.token_ids.end());
    for (const auto& one : output.prompt_logprobs) request.got_prompt.push_back(one.token_ids[0]);
    if (output.finish_reason == wire::FinishReason::kNone) return;
    request.is_over = true;
    ASSERT_EQ(request.got, request.tokens) << "key " << output.key.value;
    if (request.fails) {
      ASSERT_EQ(output.finish_reason, wire::FinishReason::kError);
      return;
    }
    ASSERT_EQ((Finish{output.finish_reason, output.stop_token_id}), request.finish);
    ASSERT_EQ(output.pooled, request.pooled);
    if (!request.pooled.empty()) return;
    if (request.request.sampling.prompt_logprobs == wire::kLogprobsNone) return;
    std::vector<int32_t> prompt(request.request.prompt_token_ids.begin() + 1,
                                request.request.prompt_token_ids.end());
    if (!request.request.output_token_ids.empty()) prompt.clear();
    ASSERT_EQ(request.got_prompt, prompt);
  }

  void finish() {
    scheduler_.check_invariants();
    for (const Expected& request : requests_) ASSERT_TRUE(request.is_over);
    ASSERT_EQ(scheduler_.stats().kv_usage, 0.0F);
    ASSERT_LE(scheduler_.stats().store_bytes, 100 * uint64_t{config_.kv.store_slot_count});
    ASSERT_TRUE(scheduler_.reset_prefix_cache());
  }

  static FrontEndId front_end_of(uint64_t key) {
    return FrontEndId{static_cast<uint32_t>(key % 2)};
  }

  Random random_;
  SchedulerConfig config_;
  uint32_t bad_one_in_;
  bool repeats_;
  Scheduler scheduler_;
  FakeWorker worker_;
  StepOutputs outputs_;
  std::vector<Expected> requests_;  // By key.
  std::deque<wire::StepResult> results_;
};

TEST(SchedulerProperty, every_request_gets_the_tokens_of_an_undisturbed_run) {
  uint64_t preemptions = 0;
  uint64_t hits = 0;
  uint64_t drafts = 0;
  uint64_t accepted = 0;
  uint64_t accepted_of_model = 0;
  uint64_t stored_hits = 0;
  uint64_t failed_loads = 0;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    SCOPED_TRACE(seed);
    History history(seed);
    history.run();
    if (HasFatalFailure()) return;
    preemptions += history.stats().preemptions;
    hits += history.stats().prefix_hit_tokens;
    drafts += history.stats().draft_tokens;
    accepted += history.stats().accepted_draft_tokens;
    if (history.has_draft_model()) accepted_of_model += history.stats().accepted_draft_tokens;
    stored_hits += history.stats().store_hit_tokens;
    failed_loads += history.failed_loads();
  }
  EXPECT_GT(preemptions, 1000u) << "the histories must hurt";
  EXPECT_GT(hits, 10000u);
  EXPECT_GT(accepted, 10000u);
  EXPECT_GT(accepted_of_model, 10000u);
  EXPECT_GT(drafts - accepted, 10000u) << "some must be wrong";
  EXPECT_GT(stored_hits, 10000u);
  EXPECT_GT(failed_loads, 300u);
}

}  // namespace
}  // namespace trireme::engine
