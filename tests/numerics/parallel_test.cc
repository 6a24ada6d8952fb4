// Goal: a model cut over ranks is the same model: tensor parallelism within rounding and with equal
// bits on all ranks, pipeline parallelism bit by bit; what cannot be cut is refused.
#include <gtest/gtest.h>

#include <thread>

#include "tests/numerics/model_for_test.h"
#include "tests/numerics/thread_collective_for_test.h"

namespace trireme::worker {
namespace {

constexpr uint32_t kBlocks = 4;

const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8};

// The logits of each rank.
std::vector<std::vector<float>> run_tensor_parallel(const std::string& name, uint32_t size) {
  const ModelDirectory directory = open_golden(name);
  ThreadGroup group(size);
  std::vector<std::vector<float>> logits(size);
  std::vector<std::jthread> ranks;
  for (uint32_t rank = 0; rank < size; ++rank) {
    ranks.emplace_back([&, rank] {
      ThreadCollective collective(group, rank);
      ThreadPool pool(1);
      auto model = load_model(directory, {.tp_rank = rank, .tp_size = size}, {.dtype = "float32"},
                              collective, pool, {});
      ASSERT_TRUE(model.ok()) << model.status();
      ASSERT_TRUE((*model)->allocate_kv(kBlocks).ok());
      logits[rank] = run_sequence(**model, kTokens, 7);
    });
  }
  ranks.clear();
  return logits;
}

std::vector<float> run_solo(const std::string& name) {
  const SoloModel model(name, "float32", kBlocks);
  return run_sequence(*model, kTokens, 7);
}

class Parallel : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, Parallel, testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

TEST_P(Parallel, two_tensor_parallel_ranks_compute_what_one_does) {
  const ModelConfig config = open_golden(GetParam()).config();
  if (config.head_count % 2 != 0) GTEST_SKIP() << "an odd number of heads";
  const auto one = run_solo(GetParam());
  const auto two = run_tensor_parallel(GetParam(), 2);
  EXPECT_EQ(two[0], two[1]);
  EXPECT_LT(largest_difference(two[0], one), 1e-4F);
}

TEST_P(Parallel, two_pipeline_stages_compute_the_same_bits_as_one) {
  const ModelDirectory directory = open_golden(GetParam());
  SoloCollective solo;
  ThreadPool pool(1);
  std::vector<std::unique_ptr<Model>> stages;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    auto model = load_model(directory, {.pp_rank = rank, .pp_size = 2}, {.dtype = "float32"}, solo,
                            pool, {});
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_TRUE((*model)->allocate_kv(kBlocks).ok());
    stages.push_back(std::move(model).value());
  }
  const std::vector<int32_t> blocks = {2, 0};
  const SequencePart part{kTokens, blocks, 0, static_cast<uint32_t>(kTokens.size())};
  std::vector<float> hidden(kTokens.size() * stages[0]->hidden_size());
  ASSERT_TRUE(run_step(*stages[0], std::span(&part, 1), {}, hidden).ok());
  const auto logits = run_step(*stages[1], std::span(&part, 1), hidden);
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(*logits, run_solo(GetParam()));
}

TEST(TensorParallel, more_ranks_than_key_value_heads_hold_copies) {
  // Projections apart, stacked, grouped by head; norms over one head, over all, by head.
  for (const std::string name : {"llama", "phi3", "falcon_40b", "falcon_7b", "qwen3", "olmo2",
                                 "stablelm_12b", "deepseek_v2", "deepseek_v3"}) {
    const auto one = run_solo(name);
    for (const auto& logits : run_tensor_parallel(name, 4)) {
      EXPECT_LT(largest_difference(logits, one), 1e-4F) << name;
    }
  }
}

TEST(TensorParallel, a_vocabulary_that_does_not_divide_is_whole_on_every_rank) {
  ASSERT_EQ(open_golden("llama_tied").config().vocabulary_size % 2, 1U);
  const auto one = run_solo("llama_tied");
  EXPECT_LT(largest_difference(run_tensor_parallel("llama_tied", 2)[1], one), 1e-4F);
}

std::string refusal(const std::string& name, const WorkerPlace& place, const LoadOptions& options) {
  const ModelDirectory directory = open_golden(name);
  SoloCollective solo;
  ThreadPool pool(1);
  const auto model = load_model(directory, place, options, solo, pool, {});
  EXPECT_FALSE(model.ok());
  return std::string(model.status().message());
}

TEST(LoadModel, sizes_that_do_not_divide_are_refused_with_both_numbers) {
  EXPECT_EQ(refusal("llama", {.tp_size = 3}, {}),
            "--tensor-parallel-size 3: the model's 4 attention heads do not divide by it");
  EXPECT_EQ(refusal("llama", {.pp_size = 3}, {}),
            "--pipeline-parallel-size 3: the model has only 2 layers");
}

TEST(LoadModel, an_unknown_dtype_is_refused_with_the_choices) {
  EXPECT_EQ(refusal("llama", {}, {.dtype = "int3"}),
            "--dtype int3: expected auto, bfloat16, float16 or float32");
}

}  // namespace
}  // namespace trireme::worker
