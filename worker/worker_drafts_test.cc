// Goal: of a row's drafts the worker accepts those that it would have sampled, gives the token
// after them, and is left as if it had decoded one by one; with a draft model it guesses them
// itself, and that model's KV is right wherever the main model's is. (At random, with every
// sampling rule: tests/numerics/speculation_test.cc.)
#include <gtest/gtest.h>

#include <deque>

#include "worker/hash_model_for_test.h"
#include "worker/step_for_test.h"
#include "worker/thread_pool.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

using Tokens = std::vector<int32_t>;

class Drafts : public testing::Test {
 protected:
  void SetUp() override { make(64); }

  void make(uint32_t logits_rows_max) {
    auto model = std::make_unique<HashModel>();
    model_ = model.get();
    WorkerParts parts;
    parts.links.tensor_parallel = std::make_unique<SoloCollective>();
    parts.model = std::move(model);
    parts.logits_rows_max = logits_rows_max;
    worker_ = make_worker(std::move(parts));
    ASSERT_TRUE(worker_->allocate_kv(32).ok());
  }

  wire::StepResult run(const StepForTest& step) {
    StatusOr<wire::StepResult> result = worker_->execute(step.input);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : wire::StepResult{};
  }

  // What greedy decoding gives after `tokens`.
  static Tokens next(Tokens tokens, uint32_t count) {
    Tokens more;
    for (uint32_t i = 0; i < count; ++i) {
      more.push_back(HashModel::next_after(tokens));
      tokens.push_back(more.back());
    }
    return more;
  }
  static wire::SamplingParams greedy() { return {.temperature = 0}; }

  HashModel* model_ = nullptr;
  std::unique_ptr<Worker> worker_;
  const Tokens prompt_ = {1, 2, 3};
  const Tokens right_ = next(prompt_, 6);
  // The prompt and the first token are there; row(0, 3, 1) decodes.
  void begin(const wire::SamplingParams& sampling = greedy()) {
    run(StepForTest().arrive(0, prompt_, {4, 9, 7}, sampling).row(0, 0, 3));
  }
};

TEST_F(Drafts, all_are_accepted_when_all_are_right) {
  begin();
  const auto result = run(StepForTest().row(0, 3, 1).row_drafts({right_[1], right_[2], right_[3]}));
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{3});
  EXPECT_EQ(result.row_token, Tokens{right_[4]});
  EXPECT_EQ(run(StepForTest().row(0, 7, 1)).row_token, Tokens{right_[5]});
}

TEST_F(Drafts, nothing_is_accepted_after_the_first_that_is_wrong) {
  begin();
  const int32_t wrong = (right_[2] + 1) % 40;
  const auto result = run(StepForTest().row(0, 3, 1).row_drafts({right_[1], wrong, right_[3]}));
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{1});
  EXPECT_EQ(result.row_token, Tokens{right_[2]});
  EXPECT_EQ(run(StepForTest().row(0, 5, 1)).row_token, Tokens{right_[3]});
}

TEST_F(Drafts, rows_without_any_are_as_ever) {
  begin();
  StepForTest step;
  step.arrive(1, prompt_, {1, 2}, greedy()).row(0, 3, 1).row_drafts({right_[1]}).row(1, 0, 3);
  const auto result = run(step);
  EXPECT_EQ(result.row_accepted, (std::vector<uint32_t>{1, 0}));
  EXPECT_EQ(result.row_token, (Tokens{right_[2], right_[0]}));
  EXPECT_TRUE(run(StepForTest().row(1, 3, 1)).row_accepted.empty());
}

TEST_F(Drafts, each_token_has_its_logprobs) {
  wire::SamplingParams asks = greedy();
  asks.logprobs = 1;
  begin(asks);
  const auto result = run(StepForTest().row(0, 3, 1).row_drafts({right_[1], right_[3]}));
  ASSERT_EQ(result.logprobs.size(), 1u);
  ASSERT_EQ(result.logprobs[0].sampled.size(), 2u);
  EXPECT_EQ(result.logprobs[0].sampled[0].token_ids[0], right_[1]);
  EXPECT_EQ(result.logprobs[0].sampled[1].token_ids[0], right_[2]);
}

TEST_F(Drafts, bad_logits_behind_accepted_ones_are_the_rows_token) {
  begin({.temperature = 0,
         .logit_bias = {{HashModel::kPoison, 100.0F}}});  // From here on always the poison.
  const auto result = run(StepForTest().row(0, 3, 1).row_drafts({5, 5}));
  EXPECT_EQ(result.row_token, Tokens{wire::kBadLogits});
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{0});
}

TEST_F(Drafts, logits_beyond_the_bound_are_taken_in_several_forwards_row_by_row) {
  StepForTest first;
  StepForTest step;
  for (uint32_t slot = 0; slot < 100; ++slot) {
    const auto block = static_cast<int32_t>(slot % 30);  // Their content does not matter here.
    first.arrive(slot, {1}, {block, 30}, greedy()).row(slot, 0, 1);
    step.row(slot, 1, 1).row_drafts({1, 2, 3});
  }
  run(first);
  model_->forward_sizes.clear();
  EXPECT_EQ(run(step).row_token.size(), 100u);
  EXPECT_EQ(model_->forward_sizes, (std::vector<std::size_t>{256, 144}));
}

TEST_F(Drafts, those_that_do_not_fit_are_refused) {
  const auto refused = [&](const StepForTest& step) {
    SetUp();
    begin();
    return std::string(worker_->execute(step.input).status().message());
  };
  EXPECT_NE(refused(StepForTest().row(0, 3, 1).row_drafts({50})).find("token 50"),
            std::string::npos);
  EXPECT_NE(refused(StepForTest().row(0, 3, 1).row_drafts(Tokens(9, 1))).find("13 tokens in 3"),
            std::string::npos);
  EXPECT_NE(refused(StepForTest().row(0, 3, 1, false).row_drafts({1})).find("1 drafts, but"),
            std::string::npos);
  StepForTest few = StepForTest().row(0, 3, 1).row_drafts({1, 2});
  few.input.draft_tokens.pop_back();
  EXPECT_NE(refused(few).find("rows get 2 drafts, 1 are there"), std::string::npos);
}

// What the stage before sent, in order; the stages run one after the other.
class Pipe final : public HiddenPipe {
 public:
  explicit Pipe(std::deque<std::vector<float>>& content) : content_(content) {}
  [[nodiscard]] Status send(std::span<const float> values) override {
    content_.emplace_back(values.begin(), values.end());
    return absl::OkStatus();
  }
  [[nodiscard]] Status receive(std::span<float> values) override {
    if (content_.empty() || values.size() != content_.front().size()) {
      return error(StatusCode::kInternal, "sizes differ");
    }
    std::copy(content_.front().begin(), content_.front().end(), values.begin());
    content_.pop_front();
    return absl::OkStatus();
  }

 private:
  std::deque<std::vector<float>>& content_;
};

// The first stage samples nothing: it learns of what was accepted by known tokens.
class TwoStages {
 public:
  explicit TwoStages(bool have_draft_model) {
    for (uint32_t stage = 0; stage < 2; ++stage) {
      WorkerParts parts;
      parts.place = {.pp_rank = stage, .pp_size = 2};
      parts.links.tensor_parallel = std::make_unique<SoloCollective>();
      (stage == 0 ? parts.links.to_next : parts.links.from_previous) =
          std::make_unique<Pipe>(between_);
      parts.model = std::make_unique<HashModel>(stage == 0, stage == 1);
      if (have_draft_model) {
        parts.draft.emplace();
        parts.draft->tokens_max = 64;
        if (stage == 0) parts.draft->model = std::make_unique<HashModel>();
      }
      stages_[stage] = make_worker(std::move(parts));
      EXPECT_TRUE(stages_[stage]->allocate_kv(32).ok());
    }
  }
  wire::StepResult run(const StepForTest& step) {
    EXPECT_TRUE(stages_[0]->execute(step.input).ok());
    auto result = stages_[1]->execute(step.input).value();
    EXPECT_TRUE(between_.empty());
    return result;
  }

 private:
  std::deque<std::vector<float>> between_;
  std::unique_ptr<Worker> stages_[2];
};

TEST_F(Drafts, two_pipeline_stages_give_what_one_does) {
  TwoStages stages(false);
  stages.run(StepForTest().arrive(0, prompt_, {4, 9, 7}, greedy()).row(0, 0, 3));
  const auto result = stages.run(StepForTest()
                                     .row(0, 3, 1)
                                     .row_known(3, {right_[0]})
                                     .row_drafts({right_[1], right_[2], (right_[3] + 1) % 40}));
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{2});
  EXPECT_EQ(result.row_token, Tokens{right_[3]});
  StepForTest next;
  next.row(0, 6, 1).row_known(4, {right_[1], right_[2], right_[3]});
  EXPECT_EQ(stages.run(next).row_token, Tokens{right_[4]});
}

// A worker with a draft model of the main model's weights: it guesses right, if its KV is right.
class DraftModel : public Drafts {
 protected:
  void SetUp() override { make(64, 0); }

  void make(uint32_t tokens_max, uint64_t salt) {
    auto draft = std::make_unique<HashModel>(true, true, HashModel::kVocabulary - 1, salt);
    draft_ = draft.get();
    WorkerParts parts;
    parts.links.tensor_parallel = std::make_unique<SoloCollective>();
    parts.model = std::make_unique<HashModel>();
    parts.draft.emplace();
    parts.draft->model = std::move(draft);
    parts.draft->tokens_max = tokens_max;
    worker_ = make_worker(std::move(parts));
    ASSERT_TRUE(worker_->allocate_kv(32).ok());
  }
  [[nodiscard]] std::size_t draft_forwards() const { return draft_->forward_sizes.size(); }

  HashModel* draft_ = nullptr;
};

TEST_F(DraftModel, counts_in_weights_and_blocks) {
  EXPECT_EQ(worker_->ready().weight_bytes, 2000u);
  EXPECT_EQ(worker_->ready().block_bytes, 128u);
}

TEST_F(DraftModel, its_guesses_are_named_where_they_are_right) {
  begin();
  const auto result = run(StepForTest().row(0, 3, 1).row_guesses(3));
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{3});
  EXPECT_EQ(result.accepted_tokens, (Tokens{right_[1], right_[2], right_[3]}));
  EXPECT_EQ(result.row_token, Tokens{right_[4]});
  const auto next = run(StepForTest().row(0, 7, 1).row_guesses(1));
  EXPECT_EQ(next.accepted_tokens, Tokens{right_[5]}) << "all accepted guesses are computed";
}

TEST_F(DraftModel, wrong_guesses_leave_nothing_behind) {
  make(64, 5);
  begin();
  for (uint32_t i = 1; i < 5; ++i) {
    const auto result = run(StepForTest().row(0, 2 + i, 1).row_guesses(2));
    EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{0});
    EXPECT_EQ(result.row_token, Tokens{right_[i]});
    EXPECT_TRUE(result.accepted_tokens.empty());
  }
}

TEST_F(DraftModel, a_row_that_wants_none_waits_until_it_fills_a_block) {
  begin();
  EXPECT_EQ(draft_forwards(), 0u) << "3 of a block's 4 tokens";
  run(StepForTest().row(0, 3, 1));
  EXPECT_EQ(draft_forwards(), 1u);
  run(StepForTest().row(0, 4, 1));
  run(StepForTest().row(0, 5, 1));
  EXPECT_EQ(draft_forwards(), 1u);
  const auto result = run(StepForTest().row(0, 6, 1).row_guesses(1));
  EXPECT_EQ(result.accepted_tokens, Tokens{right_[4]});
}

TEST_F(DraftModel, who_shares_a_block_shares_its_draft_models_part) {
  begin();
  run(StepForTest().row(0, 3, 1));
  Tokens shared = prompt_;
  shared.push_back(right_[0]);
  shared.push_back(8);
  run(StepForTest().arrive(1, shared, {4, 11}, greedy()).row(1, 4, 1));
  shared.push_back(HashModel::next_after(shared));
  const auto result = run(StepForTest().row(1, 5, 1).row_guesses(1));
  EXPECT_EQ(result.accepted_tokens, next(shared, 1));
}

TEST_F(DraftModel, guesses_beyond_its_end_break_the_protocol_and_tokens_there_do_not) {
  make(5, 0);
  begin();
  run(StepForTest().row(0, 3, 1).row_guesses(1));
  run(StepForTest().row(0, 5, 1));
  run(StepForTest().row(0, 6, 1));
  run(StepForTest().row(0, 7, 1));  // Fills a block.
  const auto status = worker_->execute(StepForTest().row(0, 8, 1).row_guesses(1).input).status();
  EXPECT_NE(std::string(status.message()).find("the draft model ends at 5"), std::string::npos);
}

TEST_F(DraftModel, a_worker_without_one_refuses_to_guess) {
  Drafts::SetUp();
  begin();
  const auto status = worker_->execute(StepForTest().row(0, 3, 1).row_guesses(2).input).status();
  EXPECT_NE(std::string(status.message()).find("rows get 2 drafts, 0 are there"),
            std::string::npos);
}

TEST_F(DraftModel, of_pipeline_stages_the_first_has_it) {
  TwoStages stages(true);
  stages.run(StepForTest().arrive(0, prompt_, {4, 9, 7}, greedy()).row(0, 0, 3));
  const auto result =
      stages.run(StepForTest().row(0, 3, 1).row_known(3, {right_[0]}).row_guesses(2));
  EXPECT_EQ(result.accepted_tokens, (Tokens{right_[1], right_[2]}));
  EXPECT_EQ(result.row_token, Tokens{right_[3]});
  StepForTest next;
  next.row(0, 6, 1).row_known(4, {right_[1], right_[2], right_[3]}).row_guesses(1);
  EXPECT_EQ(stages.run(next).accepted_tokens, Tokens{right_[4]});
}

TEST_F(DraftModel, the_first_rank_alone_can_have_it) {
  // The other rank of the group, seen from the second one: what the first put into each sum.
  class FirstRank final : public Collective {
   public:
    explicit FirstRank(Tokens guesses) : guesses_(std::move(guesses)) {}
    [[nodiscard]] uint32_t rank() const override { return 1; }
    [[nodiscard]] uint32_t size() const override { return 2; }
    [[nodiscard]] Status all_reduce_sum(std::span<float> values) override {
      if (values.size() != guesses_.size()) return error(StatusCode::kInternal, "sizes differ");
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += static_cast<float>(guesses_[i]);
      return absl::OkStatus();
    }
    [[nodiscard]] Status all_gather(std::span<const float>, std::span<float>) override {
      return error(StatusCode::kInternal, "not here");
    }
    [[nodiscard]] Status barrier() override { return absl::OkStatus(); }

   private:
    Tokens guesses_;
  };
  WorkerParts parts;
  parts.place = {.tp_rank = 1, .tp_size = 2};
  parts.links.tensor_parallel = std::make_unique<FirstRank>(Tokens{right_[1], right_[2]});
  parts.model = std::make_unique<HashModel>();
  parts.draft.emplace();
  parts.draft->tokens_max = 64;
  parts.draft->is_first_ranks = true;
  worker_ = make_worker(std::move(parts));
  ASSERT_TRUE(worker_->allocate_kv(32).ok());
  begin();
  const auto result = run(StepForTest().row(0, 3, 1).row_guesses(2));
  EXPECT_EQ(result.accepted_tokens, (Tokens{right_[1], right_[2]}));
}

}  // namespace
}  // namespace trireme::worker
