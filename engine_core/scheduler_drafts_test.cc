// Goal: the rules of speculative decoding in the scheduler, step by step. (That the tokens are
// those of a run without it, at random: scheduler_property_test.cc.)
#include <gtest/gtest.h>

#include "engine_core/scheduler_bench_for_test.h"

namespace trireme::engine {
namespace {

using Counts = std::vector<uint32_t>;
using Tokens = std::vector<int32_t>;

SchedulerConfig drafting() {
  SchedulerConfig config = small_config();
  config.draft_tokens_max = 3;
  config.draft_lookup = {1, 2};
  return config;
}

// A scheduler without a worker: the test says what each row gives.
class Drafting : public testing::Test {
 protected:
  void SetUp() override { scheduler_.emplace(drafting()); }

  void add(Tokens prompt, uint32_t output_max = 100) {
    wire::AddRequest added;
    added.key = RequestKey{next_key_++};
    added.prompt_token_ids = std::move(prompt);
    added.sampling.output_tokens_max = output_max;
    added.sampling.eos_token_ids = {0};
    scheduler_->add(kFront, added, Instant{}, outputs_);
  }
  wire::StepInput schedule() {
    const wire::StepInput* step = scheduler_->schedule(Instant{});
    return step == nullptr ? wire::StepInput{} : *step;
  }
  Status give(Tokens row_tokens, Counts accepted = {}) {
    const StepId step = scheduler_->stats().step;
    wire::StepResult result{.step = step, .row_token = std::move(row_tokens)};
    result.row_accepted = std::move(accepted);
    return scheduler_->on_result(result, Instant{}, outputs_);
  }
  std::vector<wire::EngineOutput> outputs() {
    std::vector<wire::EngineOutput> taken;
    outputs_.take(kFront, taken);
    return taken;
  }
  // After its prompt and one token of a row of its own.
  void begin(Tokens prompt, int32_t first_token, uint32_t output_max = 100) {
    add(std::move(prompt), output_max);
    schedule();
    ASSERT_TRUE(give({first_token}).ok());
    outputs();
  }

  std::optional<Scheduler> scheduler_;
  StepOutputs outputs_;
  uint64_t next_key_ = 1;
};

TEST_F(Drafting, a_decode_carries_what_followed_its_last_token_before) {
  begin({1, 2, 3, 4, 9}, 1);
  const wire::StepInput step = schedule();
  EXPECT_EQ(step.row_start, Counts{5});
  EXPECT_EQ(step.row_count, Counts{1});
  EXPECT_EQ(step.row_draft_count, Counts{3});
  EXPECT_EQ(step.draft_tokens, (Tokens{2, 3, 4}));
  EXPECT_EQ(step.row_block_count, Counts{1}) << "the drafts have a place in KV memory";
}

TEST_F(Drafting, accepted_drafts_and_the_token_after_them_come_in_one_output) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();
  ASSERT_TRUE(give({7}, {2}).ok());
  EXPECT_EQ(outputs().at(0).token_ids, (Tokens{2, 3, 7}));
  EXPECT_EQ(schedule().row_start, Counts{8}) << "the rejected draft's place is computed again";
  const wire::EngineStats stats = scheduler_->stats();
  EXPECT_EQ(stats.drafts, 1u);
  EXPECT_EQ(stats.draft_tokens, 3u);
  EXPECT_EQ(stats.accepted_draft_tokens, 2u);
  EXPECT_EQ(stats.accepted_at_position[1], 1u);
  EXPECT_EQ(stats.accepted_at_position[2], 0u);
}

TEST_F(Drafting, a_worker_that_ignores_drafts_is_right_too) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();
  ASSERT_TRUE(give({2}).ok());
  EXPECT_EQ(outputs().at(0).token_ids, Tokens{2});
  EXPECT_EQ(schedule().draft_tokens, (Tokens{3, 4, 9}));
}

TEST_F(Drafting, the_first_token_that_ends_a_request_is_its_last) {
  begin({1, 0, 3, 4, 9}, 1);
  schedule();
  ASSERT_TRUE(give({7}, {3}).ok());
  const auto got = outputs();
  EXPECT_EQ(got.at(0).token_ids, Tokens{0});
  EXPECT_EQ(got.at(0).finish_reason, wire::FinishReason::kStop);
  EXPECT_FALSE(scheduler_->has_requests());
}

TEST_F(Drafting, bad_logits_behind_accepted_drafts_fail_the_request_after_them) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();
  ASSERT_TRUE(give({wire::kBadLogits}, {2}).ok());
  const auto got = outputs();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].token_ids, (Tokens{2, 3}));
  EXPECT_EQ(got[1].finish_reason, wire::FinishReason::kError);
  EXPECT_EQ(scheduler_->stats().corrupted_requests, 1U);
}

TEST_F(Drafting, no_more_is_guessed_than_the_request_may_have) {
  begin({1, 2, 3, 4, 9}, 1, 3);
  EXPECT_EQ(schedule().draft_tokens, Tokens{2}) << "one guess and the token after it";
}

TEST_F(Drafting, the_next_step_waits_for_the_tokens_of_this_one) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();
  add({5, 6});
  EXPECT_TRUE(schedule().row_slot.empty());
  ASSERT_TRUE(give({2}).ok());
  EXPECT_EQ(schedule().row_slot.size(), 2u);
}

TEST_F(Drafting, prompts_and_decodes_of_others_go_before_guesses) {
  begin({1, 2, 3, 4, 9}, 1);
  add(Tokens(62, 5));
  const wire::StepInput step = schedule();
  EXPECT_EQ(step.row_count, (Counts{1, 62}));
  EXPECT_EQ(step.draft_tokens, Tokens{2}) << "the budget of 64 leaves one";
}

TEST_F(Drafting, a_guess_takes_nobodys_blocks) {
  SchedulerConfig tight = drafting();
  tight.kv.block_count = 4;
  tight.model_tokens_max = 16;
  scheduler_.emplace(tight);
  begin({1, 2, 3, 4, 9, 8}, 1);
  add({5, 5, 5, 5, 5, 5, 5});
  const wire::StepInput step = schedule();
  EXPECT_EQ(step.row_count, (Counts{1, 7}));
  EXPECT_EQ(step.draft_tokens, Tokens{2}) << "what its own last block has room for";
}

TEST_F(Drafting, a_block_with_rejected_drafts_is_not_found_by_others) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();  // Positions 5 to 8: the second block would be full of drafts.
  ASSERT_TRUE(give({7}, {0}).ok());
  scheduler_->abort(kFront, RequestKey{1});
  add({1, 2, 3, 4, 9, 1, 2, 3, 4});
  EXPECT_EQ(schedule().row_start, Counts{4});
}

TEST_F(Drafting, a_result_that_accepts_more_than_was_guessed_is_an_error) {
  begin({1, 2, 3, 4, 9}, 1);
  schedule();
  EXPECT_EQ(give({7}, {4}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(give({7}, {1, 0}).code(), StatusCode::kDataLoss);
}

class DraftModel : public Drafting {
 protected:
  void SetUp() override { use(9); }
  void use(uint32_t tokens_max) {
    SchedulerConfig config = drafting();
    config.draft_model_tokens_max = tokens_max;
    scheduler_.emplace(config);
  }
  Status give_named(Tokens row_tokens, Counts accepted, Tokens named) {
    const StepId step = scheduler_->stats().step;
    wire::StepResult result{.step = step, .row_token = std::move(row_tokens)};
    result.row_accepted = std::move(accepted);
    result.accepted_tokens = std::move(named);
    return scheduler_->on_result(result, Instant{}, outputs_);
  }
};

TEST_F(DraftModel, a_decode_carries_the_number_of_guesses_alone) {
  begin({1, 2, 3, 4}, 5);
  add({6});
  const wire::StepInput step = schedule();
  EXPECT_EQ(step.row_draft_count, (Counts{3, 0}));
  EXPECT_TRUE(step.draft_tokens.empty());
  EXPECT_EQ(step.row_block_count, (Counts{1, 0})) << "the guesses have a place in KV memory";
}

TEST_F(DraftModel, the_result_names_the_tokens_that_were_accepted) {
  begin({1, 2, 3}, 5);
  add({6});
  schedule();
  ASSERT_TRUE(give_named({7, 8}, {2, 0}, {30, 31}).ok());
  const auto got = outputs();
  EXPECT_EQ(got.at(0).token_ids, (Tokens{30, 31, 7}));
  EXPECT_EQ(got.at(1).token_ids, Tokens{8});
  EXPECT_EQ(scheduler_->stats().accepted_draft_tokens, 2u);
}

TEST_F(DraftModel, rows_of_who_has_gone_keep_their_named_tokens_to_themselves) {
  add({1, 2, 3});
  add({4, 5, 6});
  schedule();
  ASSERT_TRUE(give({5, 5}).ok());
  outputs();
  EXPECT_EQ(schedule().row_draft_count, (Counts{3, 3}));
  scheduler_->abort(kFront, RequestKey{1});
  ASSERT_TRUE(give_named({7, 8}, {2, 1}, {30, 31, 32}).ok());
  EXPECT_EQ(outputs().at(0).token_ids, (Tokens{32, 8}));
}

TEST_F(DraftModel, guesses_end_where_the_model_does) {
  begin({1, 2, 3, 4, 5, 6}, 5);
  EXPECT_EQ(schedule().row_draft_count, Counts{2}) << "7 of 9 tokens are there";
  use(7);
  begin({1, 2, 3, 4, 5, 6}, 5);
  EXPECT_TRUE(schedule().row_draft_count.empty());
  use(6);
  begin({1, 2, 3, 4, 5, 6}, 5);
  EXPECT_TRUE(schedule().row_draft_count.empty());
}

TEST_F(DraftModel, a_result_must_name_as_many_as_it_accepts) {
  begin({1, 2, 3}, 5);
  schedule();
  EXPECT_EQ(give_named({7}, {2}, {30}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(give_named({7}, {1}, {30, 31}).code(), StatusCode::kDataLoss);
}

TEST_F(Drafting, few_are_guessed_where_few_were_right) {
  begin(Tokens(40, 1), 1);
  uint32_t guessed = 0;
  for (int i = 0; i < 40; ++i) {
    guessed += static_cast<uint32_t>(schedule().draft_tokens.size());
    ASSERT_TRUE(give({1}, {}).ok());
  }
  EXPECT_LT(guessed, 30u) << "of 120";
}

TEST(DraftingWithAWorker, gives_the_tokens_of_a_run_without_it_in_fewer_steps) {
  Tokens tokens[2];
  std::size_t steps[2] = {};
  for (const uint32_t drafts : {0U, 3U}) {
    SchedulerConfig config = drafting();
    config.draft_tokens_max = drafts;
    SchedulerBench bench(config, true);
    bench.add(request(1, 20));
    while (bench.scheduler.has_requests()) {
      ++steps[drafts / 3];
      for (const auto& output : bench.step()) {
        tokens[drafts / 3].insert(tokens[drafts / 3].end(), output.token_ids.begin(),
                                  output.token_ids.end());
      }
    }
  }
  EXPECT_EQ(tokens[0].size(), 100u);
  EXPECT_EQ(tokens[1], tokens[0]);
  EXPECT_LT(steps[1], 70u);
}

}  // namespace
}  // namespace trireme::engine
