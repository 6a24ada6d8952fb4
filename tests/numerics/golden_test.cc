// Goal: every architecture gives the logits that transformers gives.
// Method: tiny random models with recorded logits (golden/, written by make_golden.py).
#include <gtest/gtest.h>

#include "tests/numerics/model_for_test.h"

namespace trireme::worker {
namespace {

constexpr float kFp32Tolerance = 1e-4F;  // Of the largest logit.
// Of the largest error that transformers makes in bf16: both round, at different places.
constexpr float kBf16Tolerance = 1.25F;
constexpr uint32_t kBlocks = 8;

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto file =
        Safetensors::open_file((kGoldenFolder / GetParam() / "expected.safetensors").string());
    ASSERT_TRUE(file.ok()) << file.status();
    tokens_ = values_of<int32_t>(*file, "tokens");
    logits_ = values_of<float>(*file, "logits");
    bf16_error_ = values_of<float>(*file, "bf16_error")[0];
  }

  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  float bf16_error_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

TEST_P(Golden, fp32_logits_are_those_of_transformers) {
  const SoloModel model(GetParam(), "float32", kBlocks);
  const auto got = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  const float largest = std::abs(*std::ranges::max_element(
      logits_, [](float a, float b) { return std::abs(a) < std::abs(b); }));
  EXPECT_LT(largest_difference(got, logits_), kFp32Tolerance * largest);
}

TEST_P(Golden, bf16_is_as_close_as_transformers_and_picks_the_same_tokens) {
  const SoloModel model(GetParam(), "auto", kBlocks);
  const auto got = run_sequence(*model, tokens_, static_cast<uint32_t>(tokens_.size()));
  EXPECT_LT(largest_difference(got, logits_), kBf16Tolerance * bf16_error_);
  const std::size_t vocabulary = model->vocabulary_size();
  for (std::size_t token = 0; token < tokens_.size(); ++token) {
    const auto expected = std::span(logits_).subspan(token * vocabulary, vocabulary);
    const auto best = std::ranges::max_element(expected) - expected.begin();
    const auto mine = std::span(got).subspan(token * vocabulary, vocabulary);
    const auto my_best = std::ranges::max_element(mine) - mine.begin();
    // Two logits that lie further apart than both can err must not change places.
    EXPECT_LE(
        expected[static_cast<std::size_t>(best)] - expected[static_cast<std::size_t>(my_best)],
        2 * bf16_error_)
        << "token " << token;
  }
}

}  // namespace
}  // namespace trireme::worker
