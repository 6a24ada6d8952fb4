// Goal: an embedding model gives the hidden states and pooled vectors that transformers gives, the
// same bits in any company, and the same model when it is cut over ranks.
// Method: tiny random models with recorded states (golden_embedding/, written by make_golden.py).
#include <gtest/gtest.h>

#include <thread>

#include "tests/numerics/model_for_test.h"
#include "tests/numerics/thread_collective_for_test.h"
#include "worker/step_for_test.h"
#include "worker/worker_core.h"

namespace trireme::worker {
namespace {

constexpr float kFp32Tolerance = 1e-4F;  // Of the largest value.
constexpr float kBf16Tolerance = 1.25F;  // Of the largest error that transformers makes in bf16.
constexpr uint32_t kBlocks = 8;

struct Loaded {
  ModelDirectory directory;
  std::unique_ptr<Collective> collective = std::make_unique<SoloCollective>();
  std::unique_ptr<ThreadPool> pool = std::make_unique<ThreadPool>(2);
  std::unique_ptr<Model> model;
};

Loaded load(const std::string& name, const std::string& dtype, const WorkerPlace& place = {},
            std::unique_ptr<Collective> collective = std::make_unique<SoloCollective>()) {
  Loaded it{.directory = open_golden(name, kGoldenEmbeddingFolder),
            .collective = std::move(collective)};
  auto model = load_model(it.directory, place, {.dtype = dtype, .wants_logits = false},
                          *it.collective, *it.pool, {});
  EXPECT_TRUE(model.ok()) << model.status();
  it.model = *std::move(model);
  EXPECT_TRUE(it.model->allocate_kv(kBlocks).ok());
  return it;
}

// The hidden states of a whole sequence, in one forward.
std::vector<float> states_of(Model& model, std::span<const int32_t> tokens,
                             std::span<const float> hidden_in = {},
                             std::span<float> hidden_out = {}) {
  const auto count = static_cast<uint32_t>(tokens.size());
  const std::vector<int32_t> blocks = {5, 0, 3};
  std::vector<int32_t> positions(count);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<uint32_t> wanted(hidden_out.empty() ? count : 0);
  std::iota(wanted.begin(), wanted.end(), 0U);
  std::vector<float> states(wanted.size() * model.hidden_size());
  const ForwardRow row{.token_count = count, .blocks = blocks};
  const Status status = model.forward({.tokens = tokens,
                                       .positions = positions,
                                       .rows = std::span(&row, 1),
                                       .feature_tokens = wanted,
                                       .features = states},
                                      hidden_in, hidden_out, {});
  EXPECT_TRUE(status.ok()) << status;
  return states;
}

float largest_of(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

class Embedding : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto file = Safetensors::open_file(
        (kGoldenEmbeddingFolder / GetParam() / "expected.safetensors").string());
    ASSERT_TRUE(file.ok()) << file.status();
    tokens_ = values_of<int32_t>(*file, "tokens");
    states_ = values_of<float>(*file, "states");
    pooled_ = {values_of<float>(*file, "cls"), values_of<float>(*file, "mean"),
               values_of<float>(*file, "last")};
    bf16_error_ = values_of<float>(*file, "bf16_error")[0];
  }

  std::vector<int32_t> tokens_;
  std::vector<float> states_;
  std::vector<std::vector<float>> pooled_;  // By wire::Pooling, from kCls on.
  float bf16_error_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, Embedding, testing::ValuesIn(golden_names(kGoldenEmbeddingFolder)),
                         [](const auto& test) { return test.param; });

TEST_P(Embedding, fp32_states_are_those_of_transformers) {
  const Loaded it = load(GetParam(), "float32");
  EXPECT_LT(largest_difference(states_of(*it.model, tokens_), states_),
            kFp32Tolerance * largest_of(states_));
}

TEST_P(Embedding, bf16_is_as_close_as_transformers) {
  const Loaded it = load(GetParam(), "auto");
  EXPECT_LT(largest_difference(states_of(*it.model, tokens_), states_),
            kBf16Tolerance * bf16_error_);
}

TEST_P(Embedding, two_pipeline_stages_compute_the_same_bits_as_one) {
  const Loaded first = load(GetParam(), "float32", {.pp_rank = 0, .pp_size = 2});
  const Loaded last = load(GetParam(), "float32", {.pp_rank = 1, .pp_size = 2});
  std::vector<float> hidden(tokens_.size() * first.model->hidden_size());
  states_of(*first.model, tokens_, {}, hidden);
  const Loaded whole = load(GetParam(), "float32");
  EXPECT_EQ(states_of(*last.model, tokens_, hidden), states_of(*whole.model, tokens_));
}

TEST_P(Embedding, two_tensor_parallel_ranks_compute_what_one_does) {
  ThreadGroup group(2);
  std::vector<std::vector<float>> states(2);
  std::vector<std::jthread> ranks;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      const Loaded it = load(GetParam(), "float32", {.tp_rank = rank, .tp_size = 2},
                             std::make_unique<ThreadCollective>(group, rank));
      states[rank] = states_of(*it.model, tokens_);
    });
  }
  ranks.clear();
  EXPECT_EQ(states[0], states[1]);
  EXPECT_LT(largest_difference(states[0], states_), kFp32Tolerance * largest_of(states_));
}

wire::SamplingParams pooling(wire::Pooling kind) {
  wire::SamplingParams params;
  params.output_tokens_max = 0;
  params.pooling = kind;
  return params;
}

// A worker around the model.
std::unique_ptr<Worker> worker_of(const std::string& name, std::shared_ptr<Loaded> loaded) {
  *loaded = load(name, "float32");
  WorkerParts parts;
  parts.links.tensor_parallel = std::make_unique<SoloCollective>();
  parts.model = std::move(loaded->model);
  parts.foundation = std::move(loaded);
  return make_worker(std::move(parts));
}

std::vector<float> run(Worker& worker, const StepForTest& step) {
  const auto result = worker.execute(step.input);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() && !result->pooled.empty() ? result->pooled.back().values
                                                : std::vector<float>();
}

TEST_P(Embedding, a_prompt_is_pooled_as_asked_alone_in_company_and_in_chunks) {
  const auto worker = worker_of(
      GetParam(), std::make_shared<Loaded>(
                      Loaded{.directory = open_golden(GetParam(), kGoldenEmbeddingFolder)}));
  ASSERT_TRUE(worker->allocate_kv(kBlocks).ok());
  const auto count = static_cast<uint32_t>(tokens_.size());
  for (std::size_t i = 0; i < pooled_.size(); ++i) {
    const auto kind = static_cast<wire::Pooling>(i + 1);
    StepForTest alone;
    alone.arrive(0, tokens_, {0, 1, 2}, pooling(kind)).row(0, 0, count);
    const std::vector<float> got = run(*worker, alone);
    EXPECT_LT(largest_difference(got, pooled_[i]), kFp32Tolerance * largest_of(pooled_[i]))
        << "pooling " << i + 1;
    StepForTest company;
    company.arrive(1, {4, 5, 6}, {6}, pooling(wire::Pooling::kMean));
    company.arrive(2, tokens_, {5, 3, 4}, pooling(kind)).row(1, 0, 3).row(2, 0, count);
    EXPECT_EQ(run(*worker, company), got);
    if (worker->ready().needs_whole_prompts) continue;
    StepForTest begin;
    begin.arrive(3, tokens_, {5, 3, 4}, pooling(kind)).row(3, 0, 7, false);
    run(*worker, begin);
    EXPECT_EQ(run(*worker, StepForTest().row(3, 7, count - 7)), got);
  }
}

TEST(EmbeddingModel, only_attention_in_both_directions_needs_whole_prompts) {
  EXPECT_TRUE(load("bert", "auto").model->needs_whole_prompts());
  EXPECT_FALSE(load("qwen3_embedding", "auto").model->needs_whole_prompts());
}

TEST(EmbeddingModel, logits_of_a_model_without_a_head_are_an_error) {
  const Loaded it = load("bert", "auto");
  const std::vector<int32_t> zeros = {0};
  const ForwardRow row{.token_count = 1, .blocks = zeros};
  const std::vector<uint32_t> wanted = {0};
  std::vector<float> logits(it.model->vocabulary_size());
  const Status status = it.model->forward(
      {.tokens = zeros, .positions = zeros, .rows = std::span(&row, 1), .logits_tokens = wanted},
      {}, {}, logits);
  EXPECT_EQ(status.message(), "logits are wanted of a model that is served for embeddings");
}

}  // namespace
}  // namespace trireme::worker
