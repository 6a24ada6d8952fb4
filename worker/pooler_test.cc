#include "worker/pooler.h"

#include <gtest/gtest.h>

#include <limits>

namespace trireme::worker {
namespace {

constexpr PoolUse kWhole{.feature_count = 1, .begins = true, .ends = true};

TEST(Pooler, a_mean_is_the_same_however_the_prompt_was_cut) {
  const std::vector<float> states = {1, 2, 3, 4, 8, 9};
  Pooler pooler(2);
  EXPECT_TRUE(pooler.take(0, {.feature_count = 3, .begins = true, .ends = true}, states));
  const auto whole = pooler.finish(0);
  EXPECT_EQ(whole, (std::vector<float>{4, 5}));
  EXPECT_FALSE(pooler.take(0, {.feature_count = 1, .begins = true}, states));
  EXPECT_TRUE(pooler.take(0, {.feature_begin = 1, .feature_count = 2, .ends = true}, states));
  EXPECT_EQ(pooler.finish(0), whole);
}

TEST(Pooler, what_an_aborted_prompt_left_in_a_slot_is_gone) {
  const std::vector<float> states = {1, 2, 30, 40};
  Pooler pooler(2);
  EXPECT_FALSE(pooler.take(7, {.feature_begin = 1, .feature_count = 1, .begins = true}, states));
  EXPECT_TRUE(pooler.take(7, kWhole, states));
  EXPECT_EQ(pooler.finish(7), (std::vector<float>{1, 2}));
}

TEST(Pooler, what_is_not_a_number_gives_no_vector) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Pooler pooler(2);
    EXPECT_TRUE(pooler.take(0, kWhole, std::vector<float>{1, bad}));
    EXPECT_TRUE(pooler.finish(0).empty());
  }
}

}  // namespace
}  // namespace trireme::worker
