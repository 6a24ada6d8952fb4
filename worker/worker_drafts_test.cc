// Goal: of a row's drafts the worker accepts those that it would have sampled, gives the token
// after them, and is left as if it had decoded one by one. (At random, with every sampling rule:
// tests/numerics/speculation_test.cc.)
#include <gtest/gtest.h>

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

TEST_F(Drafts, two_pipeline_stages_give_what_one_does) {
  // The first stage samples nothing: it learns of what was accepted by known tokens.
  class Pipe final : public HiddenPipe {
   public:
    explicit Pipe(std::vector<float>& content) : content_(content) {}
    [[nodiscard]] Status send(std::span<const float> hidden) override {
      content_.assign(hidden.begin(), hidden.end());
      return absl::OkStatus();
    }
    [[nodiscard]] Status receive(std::span<float> hidden) override {
      if (hidden.size() != content_.size()) return error(StatusCode::kInternal, "sizes differ");
      std::copy(content_.begin(), content_.end(), hidden.begin());
      return absl::OkStatus();
    }

   private:
    std::vector<float>& content_;
  };
  std::vector<float> hidden;
  std::unique_ptr<Worker> stages[2];
  for (uint32_t stage = 0; stage < 2; ++stage) {
    WorkerParts parts;
    parts.place = {.pp_rank = stage, .pp_size = 2};
    parts.links.tensor_parallel = std::make_unique<SoloCollective>();
    (stage == 0 ? parts.links.to_next : parts.links.from_previous) = std::make_unique<Pipe>(hidden);
    parts.model = std::make_unique<HashModel>(stage == 0, stage == 1);
    stages[stage] = make_worker(std::move(parts));
    ASSERT_TRUE(stages[stage]->allocate_kv(32).ok());
  }
  const auto run_both = [&](const StepForTest& step) {
    EXPECT_TRUE(stages[0]->execute(step.input).ok());
    return stages[1]->execute(step.input).value();
  };
  run_both(StepForTest().arrive(0, prompt_, {4, 9, 7}, greedy()).row(0, 0, 3));
  const auto result = run_both(StepForTest()
                                   .row(0, 3, 1)
                                   .row_known(3, {right_[0]})
                                   .row_drafts({right_[1], right_[2], (right_[3] + 1) % 40}));
  EXPECT_EQ(result.row_accepted, std::vector<uint32_t>{2});
  EXPECT_EQ(result.row_token, Tokens{right_[3]});
  StepForTest next;
  next.row(0, 6, 1).row_known(4, {right_[1], right_[2], right_[3]});
  EXPECT_EQ(run_both(next).row_token, Tokens{right_[4]});
}

}  // namespace
}  // namespace trireme::worker
