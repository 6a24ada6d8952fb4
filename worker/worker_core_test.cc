// The worker around a model whose every token depends on all before it.
#include "worker/worker_core.h"

#include <gtest/gtest.h>

#include <deque>

#include "worker/hash_model_for_test.h"
#include "worker/step_for_test.h"

namespace trireme::worker {
namespace {

wire::SamplingParams greedy() {
  wire::SamplingParams params;
  params.temperature = 0;
  return params;
}

struct WorkerForTest {
  HashModel* model = nullptr;
  std::unique_ptr<Worker> worker;
};

WorkerForTest make(uint32_t logits_rows_max = 64, WorkerPlace place = {}) {
  auto model = std::make_unique<HashModel>();
  WorkerForTest out{.model = model.get()};
  WorkerParts parts;
  parts.place = std::move(place);
  parts.links.tensor_parallel = std::make_unique<SoloCollective>();
  parts.model = std::move(model);
  parts.kv_bytes_max = 4096;
  parts.logits_rows_max = logits_rows_max;
  out.worker = make_worker(std::move(parts));
  EXPECT_TRUE(out.worker->allocate_kv(32).ok());
  return out;
}

wire::StepResult run(const WorkerForTest& it, const StepForTest& step) {
  StatusOr<wire::StepResult> result = it.worker->execute(step.input);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : wire::StepResult{};
}

TEST(WorkerCore, says_what_it_has) {
  const wire::WorkerReady ready = make(64, {.tp_rank = 1, .tp_size = 2}).worker->ready();
  EXPECT_EQ(ready.rank, 1u);
  EXPECT_EQ(ready.weight_bytes, 1000u);
  EXPECT_EQ(ready.block_bytes, 64u);
  EXPECT_EQ(ready.kv_bytes_max, 4096u);
  EXPECT_NE(ready.pid, 0u);
}

TEST(WorkerCore, decodes_what_it_sampled_without_being_told) {
  const WorkerForTest it = make();
  std::vector<int32_t> tokens = {1, 2, 3};
  wire::StepResult result = run(it, StepForTest().arrive(5, tokens, {4, 9}, greedy()).row(5, 0, 3));
  for (uint32_t i = 0; i < 4; ++i) {
    const int32_t expected = HashModel::next_after(tokens);
    ASSERT_EQ(result.row_token, (std::vector<int32_t>{expected}));
    tokens.push_back(expected);
    result = run(it, StepForTest().row(5, static_cast<uint32_t>(tokens.size()) - 1, 1));
  }
}

TEST(WorkerCore, company_and_chunks_change_no_token) {
  const WorkerForTest it = make();
  const std::vector<int32_t> a = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> b = {7, 8};
  StepForTest first;
  first.arrive(0, a, {3, 1}, greedy()).arrive(1, b, {2}, greedy());
  first.row(0, 0, 4, false).row(1, 0, 2);
  EXPECT_EQ(run(it, first).row_token,
            (std::vector<int32_t>{wire::kNoToken, HashModel::next_after(b)}));
  EXPECT_EQ(run(it, StepForTest().row(0, 4, 2)).row_token,
            (std::vector<int32_t>{HashModel::next_after(a)}));
}

TEST(WorkerCore, bad_logits_fail_one_sequence_and_the_others_go_on) {
  const WorkerForTest it = make();
  StepForTest step;
  step.arrive(0, {1, HashModel::kPoison}, {0}, greedy()).arrive(1, {5}, {1}, greedy());
  step.row(0, 0, 2).row(1, 0, 1);
  const std::vector<int32_t> b = {5};
  EXPECT_EQ(run(it, step).row_token,
            (std::vector<int32_t>{wire::kBadLogits, HashModel::next_after(b)}));
  EXPECT_EQ(run(it, StepForTest().row(0, 2, 1).row(1, 1, 1)).row_token.size(), 2u)
      << "the row made before the failure was known";
}

TEST(WorkerCore, bad_logits_of_a_described_prompt_fail_the_sequence) {
  const WorkerForTest it = make(1);
  wire::SamplingParams asks = greedy();
  asks.prompt_logprobs = 0;
  const std::vector<int32_t> prompt = {1, HashModel::kPoison, 2};
  EXPECT_EQ(run(it, StepForTest().arrive(0, prompt, {0}, asks).row(0, 0, 3)).row_token,
            (std::vector<int32_t>{wire::kBadLogits}));
}

TEST(WorkerCore, logprobs_come_only_to_who_asked) {
  const WorkerForTest it = make();
  wire::SamplingParams asks = greedy();
  asks.logprobs = 3;
  StepForTest step;
  step.arrive(0, {1}, {0}, greedy()).arrive(1, {1}, {1}, asks).row(0, 0, 1).row(1, 0, 1);
  const wire::StepResult result = run(it, step);
  ASSERT_EQ(result.logprobs.size(), 1u);
  EXPECT_EQ(result.logprobs[0].row, 1u);
  ASSERT_EQ(result.logprobs[0].sampled.size(), 1u);
  EXPECT_EQ(result.logprobs[0].sampled[0].token_ids.size(), 4u);
  EXPECT_EQ(result.logprobs[0].sampled[0].token_ids[0], result.row_token[1]);
}

std::vector<wire::TokenLogprobs> prompt_logprobs(uint32_t logits_rows_max, uint32_t chunk,
                                                 HashModel** model = nullptr) {
  static WorkerForTest it;
  it = make(logits_rows_max);
  if (model != nullptr) *model = it.model;
  wire::SamplingParams asks = greedy();
  asks.prompt_logprobs = 1;
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 40; ++i) prompt.push_back(i % 7);
  StepForTest step;
  step.arrive(2, prompt, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, asks);
  std::vector<wire::TokenLogprobs> all;
  for (uint32_t start = 0; start < 40; start += chunk) {
    const uint32_t count = std::min(chunk, 40 - start);
    step.row(2, start, count, start + count == 40);
    const wire::StepResult result = run(it, step);
    step = {};
    for (const wire::RowLogprobs& row : result.logprobs) {
      all.insert(all.end(), row.prompt.begin(), row.prompt.end());
    }
    if (start + count == 40) {
      EXPECT_EQ(result.row_token[0], HashModel::next_after(prompt));
    }
  }
  return all;
}

TEST(WorkerCore, prompt_logprobs_cover_all_but_the_first_token) {
  const auto all = prompt_logprobs(64, 40);
  ASSERT_EQ(all.size(), 39u);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].token_ids[0], static_cast<int32_t>((i + 1) % 7));
    EXPECT_EQ(all[i].token_ids.size(), 2u);
  }
}

TEST(WorkerCore, prompt_logprobs_are_the_same_in_any_slices) {
  const auto whole = prompt_logprobs(64, 40);
  for (const uint32_t rows_max : {1U, 3U, 7U, 39U, 40U}) {
    HashModel* model = nullptr;
    EXPECT_EQ(prompt_logprobs(rows_max, 40, &model), whole) << rows_max;
    for (const std::size_t size : model->forward_sizes) EXPECT_LE(size, rows_max);
  }
  for (const uint32_t chunk : {1U, 6U, 39U}) EXPECT_EQ(prompt_logprobs(4, chunk), whole) << chunk;
}

TEST(WorkerCore, sampling_rows_beyond_the_bound_stay_one_forward) {
  const WorkerForTest it = make(2);
  StepForTest step;
  for (int32_t slot = 0; slot < 8; ++slot) {
    step.arrive(static_cast<uint32_t>(slot), {slot}, {slot}, greedy());
    step.row(static_cast<uint32_t>(slot), 0, 1);
  }
  EXPECT_EQ(run(it, step).row_token.size(), 8u);
  EXPECT_EQ(it.model->forward_sizes, (std::vector<std::size_t>{8}));
}

// A vocabulary this large makes even few rows worth spreading.
class WideModel final : public Model {
 public:
  [[nodiscard]] uint64_t weight_bytes() const override { return 0; }
  [[nodiscard]] uint32_t vocabulary_size() const override { return 100'000; }
  [[nodiscard]] uint32_t hidden_size() const override { return 1; }
  [[nodiscard]] KvShape kv_shape() const override { return {4, 64}; }
  [[nodiscard]] Status allocate_kv(uint32_t) override { return absl::OkStatus(); }
  void release_kv() override {}
  void copy_block_out(uint32_t, std::span<std::byte>) const override {}
  void copy_block_in(uint32_t, std::span<const std::byte>) override {}
  [[nodiscard]] Status forward(const ForwardBatch& batch, std::span<const float>, std::span<float>,
                               std::span<float> logits) override {
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const auto token = static_cast<uint64_t>(batch.tokens[batch.logits_tokens[i / 100'000]]);
      logits[i] = static_cast<float>(mix64(token ^ (i % 100'000)) % 4096) / 256;
    }
    return absl::OkStatus();
  }
};

TEST(WorkerCore, many_threads_sample_what_one_does) {
  ThreadPool pool(3);
  wire::StepResult results[2];
  for (ThreadPool* helper : {static_cast<ThreadPool*>(nullptr), &pool}) {
    WorkerParts parts;
    parts.links.tensor_parallel = std::make_unique<SoloCollective>();
    parts.model = std::make_unique<WideModel>();
    parts.pool = helper;
    const std::unique_ptr<Worker> worker = make_worker(std::move(parts));
    ASSERT_TRUE(worker->allocate_kv(20).ok());
    StepForTest step;
    for (int32_t slot = 0; slot < 20; ++slot) {
      wire::SamplingParams params{.top_p = 0.9F, .seed = 3, .logprobs = 2, .prompt_logprobs = 1};
      step.arrive(static_cast<uint32_t>(slot), {slot, 5}, {slot}, params);
      step.row(static_cast<uint32_t>(slot), 0, 2);
    }
    StatusOr<wire::StepResult> result = worker->execute(step.input);
    ASSERT_TRUE(result.ok()) << result.status();
    result->compute_microseconds = 0;
    results[helper == nullptr ? 0 : 1] = *std::move(result);
  }
  EXPECT_EQ(results[0].logprobs.size(), 20u);
  EXPECT_EQ(results[0], results[1]);
}

TEST(WorkerCore, only_the_first_tensor_parallel_rank_reports_logprobs) {
  const WorkerForTest it = make(64, {.tp_rank = 1, .tp_size = 2});
  wire::SamplingParams asks = greedy();
  asks.logprobs = 3;
  asks.prompt_logprobs = 3;
  const wire::StepResult result = run(it, StepForTest().arrive(0, {1, 2}, {0}, asks).row(0, 0, 2));
  EXPECT_TRUE(result.logprobs.empty());
  EXPECT_GE(result.row_token[0], 0);
}

// Both ends in one thread: what was sent waits to be received.
class QueuePipe final : public HiddenPipe {
 public:
  explicit QueuePipe(std::deque<float>& queue) : queue_(queue) {}
  Status send(std::span<const float> values) override {
    queue_.insert(queue_.end(), values.begin(), values.end());
    return absl::OkStatus();
  }
  Status receive(std::span<float> values) override {
    for (float& value : values) {
      if (queue_.empty()) return error(StatusCode::kDeadlineExceeded, "nothing was sent");
      value = queue_.front();
      queue_.pop_front();
    }
    return absl::OkStatus();
  }

 private:
  std::deque<float>& queue_;
};

TEST(WorkerCore, two_stages_give_the_tokens_of_one) {
  std::deque<float> queue;
  std::unique_ptr<Worker> stages[2];
  for (uint32_t stage = 0; stage < 2; ++stage) {
    WorkerParts parts;
    parts.place = {.pp_rank = stage, .pp_size = 2};
    parts.links.tensor_parallel = std::make_unique<SoloCollective>();
    parts.model = std::make_unique<HashModel>(stage == 0, stage == 1);
    (stage == 0 ? parts.links.to_next : parts.links.from_previous) =
        std::make_unique<QueuePipe>(queue);
    parts.logits_rows_max = 2;
    stages[stage] = make_worker(std::move(parts));
    ASSERT_TRUE(stages[stage]->allocate_kv(32).ok());
  }
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5};
  wire::SamplingParams asks = greedy();
  asks.prompt_logprobs = 0;
  StepForTest step;
  step.arrive(0, tokens, {3, 1, 2}, asks).row(0, 0, 5);
  for (uint32_t i = 0; i < 3; ++i) {
    const auto first = stages[0]->execute(step.input);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->row_token, (std::vector<int32_t>{wire::kNoToken}));
    const auto last = stages[1]->execute(step.input);
    ASSERT_TRUE(last.ok()) << last.status();
    ASSERT_EQ(last->row_token, (std::vector<int32_t>{HashModel::next_after(tokens)}));
    const auto position = static_cast<uint32_t>(tokens.size());
    tokens.push_back(last->row_token[0]);
    step = {};
    step.row(0, position, 1).row_known(position, {tokens.back()});
  }
  EXPECT_TRUE(queue.empty());
}

TEST(WorkerCore, steps_out_of_order_are_errors) {
  WorkerParts parts;
  parts.links.tensor_parallel = std::make_unique<SoloCollective>();
  parts.model = std::make_unique<HashModel>();
  const std::unique_ptr<Worker> worker = make_worker(std::move(parts));
  EXPECT_FALSE(worker->execute({}).ok());
  EXPECT_FALSE(worker->allocate_kv(0).ok());
  EXPECT_TRUE(worker->allocate_kv(8).ok());
  EXPECT_FALSE(worker->allocate_kv(8).ok());
  EXPECT_TRUE(worker->execute({}).ok()) << "a step without rows";
  EXPECT_FALSE(worker->execute({.kind = wire::StepKind::kAgain}).ok())
      << "only a step that can be abandoned is kept";
}

}  // namespace
}  // namespace trireme::worker
