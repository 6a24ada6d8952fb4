// Sampling that could give nothing, or too much, is refused before an engine sees it.
#include "api_server/openai/sampling_checks.h"

#include <gtest/gtest.h>

#include "api_server/field_error.h"

namespace trireme::api {
namespace {

TEST(SamplingChecks, allowed_tokens_that_all_end_the_answer_cannot_be_with_min_tokens) {
  wire::SamplingParams sampling{
      .output_tokens_min = 2, .eos_token_ids = {1}, .stop_token_ids = {7}};
  sampling.allowed_token_ids = {1, 7};
  EXPECT_EQ(field_of(check_some_token_allowed(sampling)), "allowed_token_ids");
  sampling.allowed_token_ids = {1, 7, 8};
  EXPECT_TRUE(check_some_token_allowed(sampling).ok());
  sampling.bad_words = {{.token_ids = {8}}};
  EXPECT_FALSE(check_some_token_allowed(sampling).ok());
  sampling.output_tokens_min = 0;
  EXPECT_TRUE(check_some_token_allowed(sampling).ok());
}

TEST(SamplingChecks, min_tokens_may_not_exceed_the_room_there_is) {
  EXPECT_TRUE(check_output_fits({.output_tokens_max = 3, .output_tokens_min = 3}).ok());
  EXPECT_EQ(field_of(check_output_fits({.output_tokens_max = 3, .output_tokens_min = 4})),
            "min_tokens");
}

TEST(SamplingChecks, log_probabilities_of_a_whole_vocabulary_and_a_long_prompt_are_too_many) {
  EXPECT_TRUE(check_logprobs_bound({.prompt_logprobs = 4096}, 1024).ok());
  EXPECT_EQ(field_of(check_logprobs_bound({.prompt_logprobs = 4096}, 1025)), "prompt_logprobs");
  EXPECT_TRUE(check_logprobs_bound({}, 1 << 30).ok());
}

}  // namespace
}  // namespace trireme::api
