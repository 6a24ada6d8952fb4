// Admission: bounded, all or nothing, and what leaves makes room again.
#include "api_server/engine_client/admission.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

TEST(Admission, all_of_a_calls_requests_enter_or_none) {
  Admission admission;
  admission.set_limits({.requests_max = 4, .prompt_tokens_max = 100});
  EXPECT_TRUE(admission.try_enter(3, 10).ok());
  EXPECT_EQ(admission.try_enter(2, 1).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(admission.requests(), 3u);
  EXPECT_EQ(admission.prompt_tokens(), 10u);
  EXPECT_TRUE(admission.try_enter(1, 1).ok());
}

TEST(Admission, a_call_that_never_could_enter_is_the_callers_mistake) {
  Admission admission;
  admission.set_limits({.requests_max = 4, .prompt_tokens_max = 100});
  EXPECT_EQ(admission.try_enter(5, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(admission.refused_by_requests(), 0u);
  EXPECT_TRUE(admission.try_enter(4, 1).ok());
}

TEST(Admission, tokens_count_until_the_prefill_is_done) {
  Admission admission;
  admission.set_limits({.requests_max = 10, .prompt_tokens_max = 100});
  EXPECT_TRUE(admission.try_enter(1, 90).ok());
  EXPECT_EQ(admission.try_enter(1, 11).code(), StatusCode::kResourceExhausted);
  admission.prefilled(90);
  EXPECT_TRUE(admission.try_enter(1, 11).ok());
  EXPECT_EQ(admission.refused_by_tokens(), 1u);
}

TEST(Admission, a_prompt_longer_than_the_bound_may_enter_an_empty_house) {
  Admission admission;
  admission.set_limits({.requests_max = 10, .prompt_tokens_max = 100});
  EXPECT_TRUE(admission.try_enter(1, 500).ok());
  EXPECT_FALSE(admission.try_enter(1, 1).ok());
}

TEST(Admission, the_default_bound_follows_the_engines_and_is_shared_by_front_ends) {
  EXPECT_EQ(admission_limits(0, 0, 512, 1 << 20, 1).requests_max, 2048u);
  EXPECT_EQ(admission_limits(0, 0, 512, 1 << 20, 3).requests_max, 683u);
  EXPECT_EQ(admission_limits(10, 20, 512, 1 << 20, 1).requests_max, 10u);
  EXPECT_EQ(admission_limits(10, 20, 512, 1 << 20, 1).prompt_tokens_max, 20u);
}

}  // namespace
}  // namespace trireme::api
