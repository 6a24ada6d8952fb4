// Goal: speculative decoding changes nothing but the number of steps, by prompt lookup or with a
// draft model; and a draft model that is the main model guesses nearly everything right, so that
// its KV is what it should be. Method: random requests with every sampling rule, through a
// scheduler with drafts and a real worker, in random company, with preemption, cache hits, chunks
// and a store behind the cache; each against the same request alone and without drafts. Equality of
// tokens, of logprobs to the bit, and of the reason to end.
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/numerics/engine_for_test.h"
#include "worker/hash_model_for_test.h"

namespace trireme {
namespace {

constexpr uint32_t kModelTokens = 64;
constexpr uint32_t kChoices = 3;

// With a salt it has a draft model, of the main model's salt 0 or not.
EngineForTest make_engine(const engine::SchedulerConfig& config,
                          std::optional<uint64_t> draft_salt = std::nullopt) {
  worker::WorkerParts parts;
  parts.links.tensor_parallel = std::make_unique<worker::SoloCollective>();
  parts.model = std::make_unique<worker::HashModel>(true, true, kChoices);
  if (draft_salt) {
    parts.draft.emplace();
    parts.draft->model = std::make_unique<worker::HashModel>(true, true, kChoices, *draft_salt);
    parts.draft->tokens_max = config.draft_model_tokens_max;
  }
  parts.logits_rows_max = 4;
  return {config, std::move(parts)};
}

engine::SchedulerConfig alone() {
  engine::SchedulerConfig config;
  config.sequences_max = 1;
  config.model_tokens_max = kModelTokens;
  config.steps_in_flight_max = 1;
  config.kv = {.block_count = kModelTokens / 4, .block_tokens = 4, .prefix_caching = false};
  return config;
}

engine::SchedulerConfig random_config(Random& random) {
  engine::SchedulerConfig config = alone();
  config.sequences_max = 1 + static_cast<uint32_t>(random.below(8));
  config.batched_tokens_max = config.sequences_max + static_cast<uint32_t>(random.below(60));
  config.kv.block_count += static_cast<uint32_t>(random.below(24));
  config.kv.prefix_caching = random.below(3) > 0;
  for (uint64_t& word : config.kv.hash_key) word = random.next();
  config.draft_tokens_max = 1 + static_cast<uint32_t>(random.below(wire::kDraftTokensMax));
  config.draft_lookup.shortest = 1 + static_cast<uint32_t>(random.below(3));
  config.draft_lookup.longest =
      config.draft_lookup.shortest + static_cast<uint32_t>(random.below(3));
  return config;
}

int32_t any_token(Random& random) {
  return static_cast<int32_t>(random.below(worker::HashModel::kVocabulary));
}
// Of the few that the model likes.
int32_t likely_token(Random& random) { return static_cast<int32_t>(random.below(4)); }

void make_rules(wire::SamplingParams& sampling, Random& random) {
  if (random.below(3) == 0) sampling.repetition_penalty = 1.1F;
  if (random.below(3) == 0) sampling.frequency_penalty = 0.3F;
  if (random.below(3) == 0) sampling.presence_penalty = -0.5F;
  if (random.below(3) == 0) sampling.logit_bias = {{likely_token(random), 1.5F}};
  if (random.below(3) == 0) {
    sampling.bad_words = {{{likely_token(random), likely_token(random)}}, {{any_token(random)}}};
  }
  if (random.below(6) == 0) sampling.allowed_token_ids = {0, 1, 2, 5, 9};
}

wire::AddRequest random_request(Random& random, uint64_t key) {
  wire::AddRequest request{.key = RequestKey{key}};
  for (uint64_t count = 1 + random.below(30); count > 0; --count) {
    request.prompt_token_ids.push_back(likely_token(random));
  }
  wire::SamplingParams& sampling = request.sampling;
  sampling.temperature =
      random.below(2) == 0 ? 0 : 0.2F + 0.1F * static_cast<float>(random.below(8));
  if (random.below(3) == 0) sampling.top_p = 0.9F;
  if (random.below(3) == 0) sampling.top_k = 5;
  if (random.below(4) == 0) sampling.min_p = 0.1F;
  sampling.seed = random.next();
  sampling.output_tokens_max = static_cast<uint32_t>(random.below(50));
  sampling.output_tokens_min = static_cast<uint32_t>(random.below(20));
  sampling.eos_token_ids = {any_token(random)};
  if (random.below(3) == 0) sampling.stop_token_ids = {likely_token(random), any_token(random)};
  if (random.below(2) == 0) sampling.logprobs = static_cast<int32_t>(random.below(4));
  if (random.below(5) == 0) sampling.prompt_logprobs = static_cast<int32_t>(random.below(3));
  if (random.below(2) == 0) make_rules(sampling, random);
  return request;
}

Answer answer_alone(wire::AddRequest request) {
  EngineForTest engine = make_engine(alone());
  request.key = RequestKey{0};
  engine.add(request);
  engine.run();
  return engine.answers().at(0);
}

struct Totals {
  uint64_t accepted = 0;
  uint64_t rejected = 0;
  uint64_t preemptions = 0;
  uint64_t hits = 0;
  uint64_t stored_hits = 0;
};

void run_seed(uint64_t seed, std::optional<uint64_t> draft_salt, Totals& totals) {
  SCOPED_TRACE(seed);
  Random random(seed);
  engine::SchedulerConfig config = random_config(random);
  if (draft_salt) {
    config.draft_model_tokens_max = kModelTokens - static_cast<uint32_t>(random.below(2) * 20);
  }
  if (draft_salt && config.kv.prefix_caching && random.below(2) == 0) {
    config.kv.store_slot_count = 1 + static_cast<uint32_t>(random.below(60));
  }
  EngineForTest engine = make_engine(config, draft_salt);
  std::vector<wire::AddRequest> requests;
  for (uint64_t key = 0; key < 12; ++key) {
    requests.push_back(random_request(random, key));
    const bool repeats = draft_salt && key > 0 && random.below(3) == 0;
    if (repeats) requests.back().prompt_token_ids = requests[random.below(key)].prompt_token_ids;
    // What comes after the poison is nobody's to guess.
    if (draft_salt == 0U) {
      requests.back().sampling.bad_words.push_back({{worker::HashModel::kPoison}});
    }
    engine.add(requests.back());
    for (uint64_t steps = random.below(6); steps > 0; --steps) engine.step();
  }
  engine.run();
  if (testing::Test::HasFatalFailure()) return;
  for (const wire::AddRequest& request : requests) {
    SCOPED_TRACE(request.key.value);
    expect_equal(engine.answers().at(request.key.value), answer_alone(request));
    if (testing::Test::HasFatalFailure()) return;
  }
  const wire::EngineStats stats = engine.stats();
  totals.accepted += stats.accepted_draft_tokens;
  totals.rejected += stats.draft_tokens - stats.accepted_draft_tokens;
  totals.preemptions += stats.preemptions;
  totals.hits += stats.prefix_hit_tokens;
  totals.stored_hits += stats.store_hit_tokens;
}

Totals run_all(std::optional<uint64_t> draft_salt) {
  Totals totals;
  for (uint64_t seed = 0; seed < 300 && !testing::Test::HasFatalFailure(); ++seed) {
    run_seed(seed, draft_salt, totals);
  }
  return totals;
}

TEST(Speculation, answers_are_those_of_plain_decoding) {
  const Totals totals = run_all(std::nullopt);
  EXPECT_GT(totals.accepted, 3000u);
  EXPECT_GT(totals.rejected, 3000u);
  EXPECT_GT(totals.preemptions, 100u);
}

TEST(Speculation, with_the_model_itself_for_a_draft_model_they_are_too_and_guesses_are_right) {
  const Totals totals = run_all(0);
  EXPECT_GT(totals.accepted, 20000u);
  EXPECT_LT(totals.rejected, totals.accepted / 1000);
  EXPECT_GT(totals.preemptions, 100u);
  EXPECT_GT(totals.hits, 1000u);
  EXPECT_GT(totals.stored_hits, 300u);
}

TEST(Speculation, with_another_draft_model_they_are_too) {
  const Totals totals = run_all(77);
  EXPECT_GT(totals.accepted, 3000u);
  EXPECT_GT(totals.rejected, 3000u);
  EXPECT_GT(totals.preemptions, 100u);
}

}  // namespace
}  // namespace trireme
