#include "engine_core/finish_rules.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

using wire::FinishReason;

const wire::SamplingParams kParams{
    .output_tokens_max = 4, .eos_token_ids = {2, 3}, .stop_token_ids = {7, 3}};

Finish finish(const wire::SamplingParams& params, std::vector<int32_t> output,
              uint32_t model_tokens_max = 100) {
  output.insert(output.begin(), {2, 7});  // A prompt full of stop tokens ends nothing.
  return check_finish(params, output, 2, model_tokens_max);
}

TEST(FinishRules, ordinary_tokens_end_nothing) {
  EXPECT_EQ(finish(kParams, {}), Finish{});
  EXPECT_EQ(finish(kParams, {5, 6, 8}), Finish{});
}

TEST(FinishRules, every_token_of_the_models_end_stops_without_a_reason) {
  EXPECT_EQ(finish(kParams, {5, 2}), (Finish{FinishReason::kStop, std::nullopt}));
  EXPECT_EQ(finish(kParams, {5, 3}), (Finish{FinishReason::kStop, std::nullopt}));
}

TEST(FinishRules, the_clients_stop_token_is_named) {
  EXPECT_EQ(finish(kParams, {7}), (Finish{FinishReason::kStop, 7}));
}

TEST(FinishRules, ignore_eos_leaves_the_clients_stop_tokens) {
  auto params = kParams;
  params.ignore_eos = true;
  EXPECT_EQ(finish(params, {2}), Finish{});
  EXPECT_EQ(finish(params, {3}), (Finish{FinishReason::kStop, 3}));
}

TEST(FinishRules, before_the_minimum_only_the_length_ends) {
  auto params = kParams;
  params.output_tokens_min = 3;
  EXPECT_EQ(finish(params, {5, 2}), Finish{});
  EXPECT_EQ(finish(params, {5, 2}, 4), (Finish{FinishReason::kLength, std::nullopt}));
  EXPECT_EQ(finish(params, {5, 5, 2}), (Finish{FinishReason::kStop, std::nullopt}));
}

TEST(FinishRules, length_is_the_requests_or_the_models) {
  EXPECT_EQ(finish(kParams, {5, 5, 5, 5}).reason, FinishReason::kLength);
  EXPECT_EQ(finish(kParams, {5, 5, 5}, 5).reason, FinishReason::kLength);
  EXPECT_EQ(finish(kParams, {5, 5, 5, 2}).reason, FinishReason::kStop) << "a stop wins";
}

}  // namespace
}  // namespace trireme::engine
