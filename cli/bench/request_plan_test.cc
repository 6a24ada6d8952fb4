// Goal: a seed is a plan, and its arrivals and lengths have the distribution that was asked for.
#include "cli/bench/request_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace trireme::bench {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> gaps(const PlanOptions& options) {
  const RequestPlan plan(options);
  std::vector<double> found;
  Duration before{};
  for (const PlannedRequest& request : plan.requests()) {
    found.push_back(std::chrono::duration<double>(request.at - before).count());
    before = request.at;
  }
  return found;
}

// Standard deviation over mean: 1 / sqrt(burstiness) for gamma gaps.
double spread(const std::vector<double>& values) {
  double sum = 0;
  double squares = 0;
  for (const double value : values) sum += value, squares += value * value;
  const double mean = sum / static_cast<double>(values.size());
  return std::sqrt(squares / static_cast<double>(values.size()) - mean * mean) / mean;
}

TEST(RequestPlan, same_seed_is_the_same_plan_and_another_seed_another) {
  const PlanOptions options{.num_prompts = 50, .request_rate = 10, .range_ratio = 0.5, .seed = 3};
  PlanOptions other = options;
  other.seed = 4;
  EXPECT_EQ(gaps(options), gaps(options));
  EXPECT_NE(gaps(options), gaps(other));
  EXPECT_EQ(RequestPlan(options).prompt(7, 1000), RequestPlan(options).prompt(7, 1000));
  EXPECT_NE(RequestPlan(options).prompt(7, 1000), RequestPlan(other).prompt(7, 1000));
  EXPECT_NE(RequestPlan(options).prompt(7, 1000), RequestPlan(options).prompt(8, 1000));
}

TEST(RequestPlan, infinite_rate_sends_all_at_once) {
  const RequestPlan plan({.num_prompts = 5});
  for (const PlannedRequest& request : plan.requests()) EXPECT_EQ(request.at, Duration::zero());
}

TEST(RequestPlan, last_request_comes_when_the_rate_says_whatever_the_seed) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const RequestPlan plan({.num_prompts = 100, .request_rate = 25, .seed = seed});
    EXPECT_NEAR(std::chrono::duration<double>(plan.requests().back().at).count(), 4, 1e-6);
  }
}

TEST(RequestPlan, burstiness_is_the_shape_of_the_gaps) {
  const PlanOptions base{.num_prompts = 20'000, .request_rate = 100};
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    PlanOptions options = base;
    options.burstiness = burstiness;
    EXPECT_NEAR(spread(gaps(options)), 1 / std::sqrt(burstiness), 0.06) << burstiness;
  }
  PlanOptions even = base;
  even.burstiness = kInfinity;
  EXPECT_NEAR(spread(gaps(even)), 0, 1e-3);
}

TEST(RequestPlan, lengths_stay_in_their_range_and_reach_both_ends) {
  const RequestPlan plan(
      {.num_prompts = 2000, .input_len = 10, .output_len = 4, .range_ratio = 0.5, .prefix_len = 3});
  uint32_t low = 1000;
  uint32_t high = 0;
  for (const PlannedRequest& request : plan.requests()) {
    low = std::min(low, request.input_len);
    high = std::max(high, request.input_len);
    EXPECT_GE(request.output_len, 2);
    EXPECT_LE(request.output_len, 6);
  }
  EXPECT_EQ(low, 3 + 5);
  EXPECT_EQ(high, 3 + 15);
}

TEST(RequestPlan, prompts_share_the_prefix_and_stay_inside_the_vocabulary) {
  const RequestPlan plan({.num_prompts = 2, .input_len = 500, .prefix_len = 16});
  const auto first = plan.prompt(0, 50);
  const auto second = plan.prompt(1, 50);
  ASSERT_EQ(first.size(), 516);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 16, second.begin()));
  EXPECT_NE(first, second);
  EXPECT_EQ(*std::max_element(first.begin(), first.end()), 49);
}

}  // namespace
}  // namespace trireme::bench
