// Goal: ranks whose experts are divided tell what an engine alone tells, to the bit, also where
// they leave waves in steps that guess, by lookup or with a draft model, and in steps that move
// blocks between KV memory and the store behind it: what a step does before its first forward is
// done once, however often it is run. Method: each rank with the product's scheduler in little
// memory, waves left at random; every request against itself alone, without drafts and store.
#include <gtest/gtest.h>

#include "tests/numerics/engine_model_for_test.h"
#include "tests/numerics/wave_for_test.h"

namespace trireme {
namespace {

constexpr uint64_t kRequestsEach = 8;
constexpr uint64_t kSeeds = kIsSanitized ? 1 : 4;

struct Case {
  std::string title;
  std::string model;
  uint32_t pp = 1;
  std::string draft = {};
  bool looks_up = false;
  bool has_store = false;
};

void PrintTo(const Case& test, std::ostream* out) { *out << test.title; }

std::vector<Case> all_cases() {
  return {
      {.title = "lookup", .model = "mixtral", .looks_up = true},
      {.title = "draft_that_is_right", .model = "qwen3_moe", .draft = "qwen3_moe"},
      {.title = "draft_that_is_wrong", .model = "qwen3_moe", .draft = "llama"},
      {.title = "store", .model = "deepseek_v3", .has_store = true},
      {.title = "store_and_draft", .model = "qwen2_moe", .draft = "qwen2_moe", .has_store = true},
      {.title = "store_and_draft_of_stages",
       .model = "qwen3_moe",
       .pp = 2,
       .draft = "qwen3_moe",
       .has_store = true},
  };
}

engine::SchedulerConfig config_of(const Case& test) {
  engine::SchedulerConfig config = EngineModel::config(1);
  config.sequences_max = 4;
  config.batched_tokens_max = 24;
  config.steps_in_flight_max = 1;
  config.pipeline_stages = test.pp;
  config.kv.block_count = EngineModel::kSequenceBlocks + 2;
  if (test.has_store) config.kv.store_slot_count = 12;
  if (test.looks_up || !test.draft.empty()) config.draft_tokens_max = 3;
  if (test.looks_up) config.draft_lookup = {.shortest = 1, .longest = 2};
  if (!test.draft.empty()) config.draft_model_tokens_max = EngineModel::kTokensMax;
  return config;
}

// The engine of one rank; a request arrives every other step.
class ScheduledRank {
 public:
  ScheduledRank(const engine::SchedulerConfig& config, std::vector<wire::AddRequest> requests)
      : requests_(std::move(requests)), scheduler_(std::make_unique<SchedulerForTest>(config)) {}

  [[nodiscard]] bool is_done() const {
    return added_ == requests_.size() && !scheduler_->has_requests();
  }

  [[nodiscard]] wire::StepInput next_step(uint32_t number) {
    if (added_ < requests_.size() && 2 * added_ <= number) scheduler_->add(requests_[added_++]);
    const wire::StepInput* made = scheduler_->schedule();
    own_step_ = made == nullptr ? StepId{0} : made->step;
    wire::StepInput step;
    if (made != nullptr) step = *made;
    if (made == nullptr) step.kind = wire::StepKind::kDummy;
    step.step = StepId{number + 1};
    return step;
  }

  void take(wire::StepResult result) {
    if (own_step_ == StepId{0}) return;
    result.step = own_step_;
    scheduler_->take(result);
  }

  [[nodiscard]] const std::vector<wire::AddRequest>& requests() const { return requests_; }
  [[nodiscard]] const SchedulerForTest& scheduler() const { return *scheduler_; }

 private:
  std::vector<wire::AddRequest> requests_;
  std::unique_ptr<SchedulerForTest> scheduler_;
  std::size_t added_ = 0;
  StepId own_step_;  // As the scheduler numbers it; 0: there is nothing to take in.
};

class ScheduledWaves : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, ScheduledWaves, testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.title; });

void expect_as_alone(const ScheduledRank& rank, const EngineModel& model) {
  rank.scheduler().check_invariants();
  const std::vector<Answer> alone = model.answers_alone(rank.requests());
  for (std::size_t key = 0; key < alone.size(); ++key) {
    SCOPED_TRACE(testing::Message() << "request " << key);
    expect_equal(rank.scheduler().answers().at(key), alone[key]);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(ScheduledWaves, tell_what_an_engine_alone_tells_wherever_they_are_left) {
  const Case& test = GetParam();
  const EngineModel model({.name = test.model});
  const engine::SchedulerConfig config = config_of(test);
  uint32_t again = 0;
  uint32_t again_with_drafts = 0;
  uint32_t again_with_moves = 0;
  wire::EngineStats totals;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    worker::RanksInStep group(test.model, {.dp = 2,
                                           .pp = test.pp,
                                           .draft = test.draft,
                                           .block_count = config.kv.block_count,
                                           .store_slot_count = config.kv.store_slot_count});
    std::vector<ScheduledRank> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      ranks.emplace_back(config, model.random_requests(random, kRequestsEach));
    }
    group.run_all(ranks, seed);
    if (HasFailure()) return;
    for (const ScheduledRank& rank : ranks) {
      expect_as_alone(rank, model);
      if (HasFailure()) return;
      const wire::EngineStats stats = rank.scheduler().stats();
      totals.preemptions += stats.preemptions;
      totals.store_hit_tokens += stats.store_hit_tokens;
      totals.draft_tokens += stats.draft_tokens;
      totals.accepted_draft_tokens += stats.accepted_draft_tokens;
    }
    again += group.steps_again;
    again_with_drafts += group.steps_again_with_drafts;
    again_with_moves += group.steps_again_with_moves;
  }
  EXPECT_GT(again, 0U);
  if (kIsSanitized) return;
  const bool guesses = config.draft_tokens_max > 0;
  EXPECT_EQ(again_with_drafts > 0, guesses);
  EXPECT_EQ(again_with_moves > 0, test.has_store);
  const uint64_t rejected = totals.draft_tokens - totals.accepted_draft_tokens;
  if (guesses && test.draft != test.model) {
    EXPECT_GT(rejected, 0U);
  }
  if (test.looks_up || test.draft == test.model) {
    EXPECT_GT(totals.accepted_draft_tokens, 0U);
  }
  EXPECT_GT(totals.preemptions, 0U);
  if (test.has_store) {
    EXPECT_GT(totals.store_hit_tokens, 0U);
  }
}

}  // namespace
}  // namespace trireme
