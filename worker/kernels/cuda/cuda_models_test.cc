// Goal: every dense architecture on a CudaDevice gives the logits that transformers gives, the same
// bits alone, in chunks, in company and cut into stages, and with two ranks what one gives; the
// others are refused when they are loaded. Method: the golden models of tests/numerics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/numerics/thread_collective_for_test.h"
#include "worker/kernels/cuda/cuda_model_for_test.h"

namespace trireme::worker {
namespace {

constexpr float kFp32Tolerance = 1e-4F;  // Of the largest logit.
constexpr float kBf16Tolerance = 1.25F;  // Of the largest error that transformers makes in bf16.

bool has_experts_or_latents(const std::string& name) {
  return name.find("moe") != std::string::npos || name.find("mixtral") != std::string::npos ||
         name.find("deepseek") != std::string::npos;
}

std::vector<std::string> dense_names() {
  auto names = golden_names();
  std::erase_if(names, has_experts_or_latents);
  return names;
}

std::vector<std::string> other_names() {
  auto names = golden_names();
  std::erase_if(names, [](const std::string& name) { return !has_experts_or_latents(name); });
  return names;
}

std::string name_of(const testing::TestParamInfo<std::string>& test) { return test.param; }

class DenseOnCuda : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, DenseOnCuda, testing::ValuesIn(dense_names()), name_of);

TEST_P(DenseOnCuda, fp32_logits_are_those_of_transformers_whole_and_in_chunks) {
  const CudaModel model(GetParam());
  ASSERT_TRUE(model.status().ok()) << model.status();
  const Expected expected = expected_of(GetParam());
  const auto count = static_cast<uint32_t>(expected.tokens.size());
  const auto whole = run_sequence(*model, expected.tokens, count);
  EXPECT_LT(largest_difference(whole, expected.values),
            kFp32Tolerance * largest_of(expected.values));
  EXPECT_EQ(run_sequence(*model, expected.tokens, 7), whole);
}

TEST_P(DenseOnCuda, bf16_logits_are_as_close_as_those_of_transformers) {
  const CudaModel model(GetParam(), {.element = Element::kBfloat16});
  ASSERT_TRUE(model.status().ok()) << model.status();
  const Expected expected = expected_of(GetParam());
  const auto got =
      run_sequence(*model, expected.tokens, static_cast<uint32_t>(expected.tokens.size()));
  EXPECT_LT(largest_difference(got, expected.values), kBf16Tolerance * expected.bf16_error);
}

class OthersOnCuda : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, OthersOnCuda, testing::ValuesIn(other_names()), name_of);

TEST_P(OthersOnCuda, are_refused_when_they_are_loaded) {
  const CudaModel model(GetParam());
  EXPECT_EQ(model.status().code(), StatusCode::kUnimplemented) << model.status();
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr("use --device cpu"));
}

// Prompt, chunk and single tokens of three sequences in one step.
TEST(CudaCompany, changes_no_bit) {
  for (const Element element : {Element::kFloat32, Element::kBfloat16}) {
    const CudaModel model("llama", {.element = element});
    ASSERT_TRUE(model.status().ok()) << model.status();
    const std::vector<int32_t> tokens = expected_of("llama").tokens;
    const auto count = static_cast<uint32_t>(tokens.size());
    const auto alone = run_sequence(*model, tokens, count);
    const std::vector<std::vector<int32_t>> blocks = {{7, 2}, {1, 6}, {3, 0}};
    const auto part = [&](uint32_t sequence, uint32_t start, uint32_t part_count) {
      return SequencePart{tokens, blocks[sequence], start, part_count};
    };
    ASSERT_TRUE(run_step(*model, std::vector{part(0, 0, count - 1), part(1, 0, 4)}).ok());
    const auto together =
        run_step(*model, std::vector{part(0, count - 1, 1), part(1, 4, 5), part(2, 0, count)});
    ASSERT_TRUE(together.ok()) << together.status();
    const std::size_t vocabulary = model->vocabulary_size();
    std::vector<float> expected(alone.end() - static_cast<std::ptrdiff_t>(vocabulary), alone.end());
    const auto fifth = alone.begin() + static_cast<std::ptrdiff_t>(4 * vocabulary);
    expected.insert(expected.end(), fifth, fifth + static_cast<std::ptrdiff_t>(5 * vocabulary));
    expected.insert(expected.end(), alone.begin(), alone.end());
    EXPECT_EQ(*together, expected);
  }
}

// Of the largest logit: a few numbers whose code lies on an edge.
TEST(CudaInt8Kv, logits_are_those_of_the_cpu_whole_and_in_chunks) {
  constexpr float kTolerance = 2e-3F;
  for (const std::string name : {"llama", "gemma2", "qwen3"}) {
    const std::vector<int32_t> tokens = expected_of(name).tokens;
    const auto count = static_cast<uint32_t>(tokens.size());
    const SoloModel cpu(name, "float32", kCudaModelBlocks, "int8");
    const auto expected = run_sequence(*cpu, tokens, count);
    const CudaModel model(name, {.has_int8_kv = true});
    ASSERT_TRUE(model.status().ok()) << model.status();
    const auto whole = run_sequence(*model, tokens, count);
    EXPECT_LT(largest_difference(whole, expected), kTolerance * largest_of(expected)) << name;
    EXPECT_EQ(run_sequence(*model, tokens, 7), whole) << name;
  }
}

// Models whose tokens see both ways, and one that is not asked for logits.
TEST(CudaEmbedding, states_are_those_of_transformers) {
  for (const std::string& name : golden_names(kGoldenEmbeddingFolder)) {
    const CudaModel model(name, {.folder = kGoldenEmbeddingFolder, .wants_logits = false});
    ASSERT_TRUE(model.status().ok()) << model.status();
    const Expected expected = expected_of(name, kGoldenEmbeddingFolder, "states");
    const auto count = static_cast<uint32_t>(expected.tokens.size());
    const std::vector<int32_t> blocks = {5, 0, 3};
    std::vector<uint32_t> wanted(count);
    std::iota(wanted.begin(), wanted.end(), 0U);
    const std::vector<int32_t> positions(wanted.begin(), wanted.end());
    std::vector<float> states(wanted.size() * model->hidden_size());
    const ForwardRow row{.token_count = count, .blocks = blocks};
    const Status status = model->forward({.tokens = expected.tokens,
                                          .positions = positions,
                                          .rows = std::span(&row, 1),
                                          .feature_tokens = wanted,
                                          .features = states},
                                         {}, {}, {});
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_LT(largest_difference(states, expected.values),
              kFp32Tolerance * largest_of(expected.values))
        << name;
  }
}

// Norms over one head, over all of them on all ranks, by head; a vocabulary that does not divide.
TEST(CudaRanks, two_compute_what_one_does) {
  for (const std::string name : {"llama_tied", "qwen3", "olmo2", "stablelm_12b"}) {
    const Expected expected = expected_of(name);
    ThreadGroup group(2);
    std::vector<std::vector<float>> logits(2);
    {
      std::vector<std::jthread> ranks;
      for (uint32_t rank = 0; rank < 2; ++rank) {
        ranks.emplace_back([&, rank] {
          ThreadCollective collective(group, rank);
          const CudaModel model(
              name, {.place = {.tp_rank = rank, .tp_size = 2}, .collective = &collective});
          ASSERT_TRUE(model.status().ok()) << model.status();
          logits[rank] = run_sequence(*model, expected.tokens, 7);
        });
      }
    }
    EXPECT_EQ(logits[0], logits[1]) << name;
    EXPECT_LT(largest_difference(logits[0], expected.values),
              kFp32Tolerance * largest_of(expected.values))
        << name;
  }
}

TEST(CudaRanks, two_stages_compute_the_bits_of_one) {
  const std::vector<int32_t> tokens = expected_of("llama").tokens;
  const auto count = static_cast<uint32_t>(tokens.size());
  const CudaModel first("llama", {.place = {.pp_rank = 0, .pp_size = 2}});
  const CudaModel second("llama", {.place = {.pp_rank = 1, .pp_size = 2}});
  ASSERT_TRUE(first.status().ok() && second.status().ok());
  const std::vector<int32_t> blocks = {2, 0, 1};
  const SequencePart part{tokens, blocks, 0, count};
  std::vector<float> hidden(tokens.size() * first->hidden_size());
  ASSERT_TRUE(run_step(*first, std::span(&part, 1), {}, hidden).ok());
  const auto logits = run_step(*second, std::span(&part, 1), hidden);
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(*logits, run_sequence(*CudaModel("llama"), tokens, count));
}

}  // namespace
}  // namespace trireme::worker
