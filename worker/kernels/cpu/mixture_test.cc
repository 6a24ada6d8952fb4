// Goal: experts are chosen and weighted as reference/ does it, and a mixture is the weighted sum of
// its experts with the same bits for a token in any company. Tolerances: 1e-6 of the weights, 4e-6
// of the largest output.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/kernels/reference/reference.h"

namespace trireme::worker::cpu {
namespace {

constexpr uint32_t kHidden = 64;
constexpr uint32_t kInner = 48;
constexpr uint32_t kExperts = 16;

std::vector<float> random_values(std::size_t count, uint64_t seed, double spread = 1) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>((random.unit() * 2 - 1) * spread);
  return values;
}

View view_of(std::vector<float>& values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  return {values.data(), rows, columns, columns};
}

MatrixSlice slice_of(const std::vector<float>& values, uint32_t rows) {
  const auto columns = static_cast<uint32_t>(values.size() / rows);
  return {values.data(), Element::kFloat32, columns, rows, columns};
}

std::vector<Routing> routings() {
  std::vector<Routing> all;
  for (const ExpertScore score : {ExpertScore::kSoftmax, ExpertScore::kSigmoid}) {
    for (const bool renormalises : {false, true}) {
      all.push_back({.experts_per_token = 4, .score = score, .renormalises = renormalises});
      for (const GroupScore group : {GroupScore::kLargest, GroupScore::kTopTwo}) {
        all.push_back({.experts_per_token = 3,
                       .score = score,
                       .renormalises = renormalises,
                       .scale = 2.5F,
                       .group_count = 4,
                       .groups_per_token = 2,
                       .group_score = group});
      }
    }
  }
  return all;
}

class Mixture : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    for (uint32_t i = 0; i < kExperts; ++i) {
      gate_up_.push_back(random_values(std::size_t{2} * kInner * kHidden, 100 + i));
      down_.push_back(random_values(std::size_t{kHidden} * kInner, 200 + i));
      auto gate_up = device_.load_linear({.parts = {slice_of(gate_up_[i], 2 * kInner)}});
      auto down = device_.load_linear({.parts = {slice_of(down_[i], kHidden)}});
      ASSERT_TRUE(gate_up.ok() && down.ok());
      experts_.push_back({std::move(gate_up).value(), std::move(down).value()});
    }
  }

  [[nodiscard]] std::vector<float> run(const Routing& routing, std::vector<float> x,
                                       std::vector<float> logits) {
    const auto rows = static_cast<uint32_t>(x.size() / kHidden);
    std::vector<float> out(x.size(), std::numeric_limits<float>::quiet_NaN());
    const ExpertChoices choices = device_.choose_experts(routing, nullptr, view_of(logits, rows));
    device_.run_experts(Activation::kSilu, experts_, choices, view_of(x, rows), view_of(out, rows));
    return out;
  }

  [[nodiscard]] std::vector<float> expected_row(const Routing& routing, std::span<const float> x,
                                                std::span<const float> logits) const {
    std::vector<float> sum(kHidden);
    for (const auto& [expert, weight] : reference::choose_experts(routing, logits, {})) {
      const auto both = reference::linear(x, gate_up_[expert], {}, 1, kHidden);
      const auto inner =
          reference::silu_mul(std::span(both).first(kInner), std::span(both).subspan(kInner));
      const auto out = reference::linear(inner, down_[expert], {}, 1, kInner);
      for (uint32_t i = 0; i < kHidden; ++i) sum[i] += weight * out[i];
    }
    return sum;
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{Element::kFloat32, pool_, solo_, *GetParam()};
  std::vector<std::vector<float>> gate_up_;
  std::vector<std::vector<float>> down_;
  std::vector<ExpertWeights> experts_;
};

INSTANTIATE_TEST_SUITE_P(All, Mixture, testing::ValuesIn(runnable_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(Mixture, experts_are_chosen_and_weighted_as_the_reference_does) {
  constexpr uint32_t rows = 40;
  const auto bias_values = random_values(kExperts, 7, 0.3);
  const auto bias = device_.load_vector(
      VectorSource{.parts = {slice_of(bias_values, 1)}, .keeps_precision = true});
  ASSERT_TRUE(bias.ok());
  auto logits = random_values(std::size_t{rows} * kExperts, 8, 3);
  for (const Routing& routing : routings()) {
    const bool has_bias = routing.score == ExpertScore::kSigmoid;
    const ExpertChoices got =
        device_.choose_experts(routing, has_bias ? bias->get() : nullptr, view_of(logits, rows));
    ASSERT_EQ(got.per_token, routing.experts_per_token);
    for (uint32_t row = 0; row < rows; ++row) {
      const auto expected =
          reference::choose_experts(routing, std::span(logits).subspan(row * kExperts, kExperts),
                                    has_bias ? std::span(bias_values) : std::span<const float>());
      for (uint32_t i = 0; i < got.per_token; ++i) {
        const std::size_t at = std::size_t{row} * got.per_token + i;
        ASSERT_EQ(got.experts[at], expected[i].expert);
        ASSERT_NEAR(got.weights[at], expected[i].weight, 1e-6F * routing.scale);
      }
    }
  }
}

TEST_P(Mixture, the_lower_index_wins_between_equal_scores) {
  std::vector<float> logits(kExperts, 1.0F);
  const ExpertChoices got = device_.choose_experts({.experts_per_token = 3, .renormalises = true},
                                                   nullptr, view_of(logits, 1));
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(got.experts[i], i);
    EXPECT_FLOAT_EQ(got.weights[i], 1.0F / 3);
  }
}

TEST_P(Mixture, a_token_that_is_lost_loses_no_other) {
  auto x = random_values(std::size_t{3} * kHidden, 9);
  auto logits = random_values(std::size_t{3} * kExperts, 10);
  const Routing routing{.experts_per_token = 2};
  const auto clean = run(routing, x, logits);
  std::fill_n(x.begin() + kHidden, kHidden, std::numeric_limits<float>::quiet_NaN());
  std::fill_n(logits.begin() + kExperts, kExperts, std::numeric_limits<float>::quiet_NaN());
  const auto got = run(routing, x, logits);
  EXPECT_TRUE(std::equal(got.begin(), got.begin() + kHidden, clean.begin()));
  EXPECT_TRUE(std::isnan(got[kHidden]));
  EXPECT_TRUE(std::equal(got.begin() + 2 * kHidden, got.end(), clean.begin() + 2 * kHidden));
}

TEST_P(Mixture, the_output_is_the_weighted_sum_of_the_experts) {
  constexpr uint32_t rows = 21;
  const auto x = random_values(std::size_t{rows} * kHidden, 11);
  const auto logits = random_values(std::size_t{rows} * kExperts, 12, 2);
  for (const Routing& routing : routings()) {
    const auto got = run(routing, x, logits);
    for (uint32_t row = 0; row < rows; ++row) {
      const auto expected = expected_row(routing, std::span(x).subspan(row * kHidden, kHidden),
                                         std::span(logits).subspan(row * kExperts, kExperts));
      float largest = 0;
      for (const float value : expected) largest = std::max(largest, std::abs(value));
      for (uint32_t i = 0; i < kHidden; ++i) {
        ASSERT_NEAR(got[row * kHidden + i], expected[i], 4e-6F * largest);
      }
    }
  }
}

TEST_P(Mixture, a_token_has_the_same_bits_in_any_company) {
  constexpr uint32_t rows = 37;
  const auto x = random_values(std::size_t{rows} * kHidden, 13);
  const auto logits = random_values(std::size_t{rows} * kExperts, 14);
  const Routing routing{.experts_per_token = 5};
  const auto all = run(routing, x, logits);
  for (std::ptrdiff_t row = 0; row < rows; ++row) {
    const auto alone =
        run(routing, {x.begin() + row * kHidden, x.begin() + (row + 1) * kHidden},
            {logits.begin() + row * kExperts, logits.begin() + (row + 1) * kExperts});
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + row * kHidden));
  }
}

TEST_P(Mixture, what_is_gated_is_scaled_by_the_sigmoid_before_it_is_added) {
  auto x = random_values(std::size_t{2} * kHidden, 15);
  auto delta = random_values(x.size(), 16);
  std::vector<float> gate = {-1.5F, 2.0F};
  const auto before = x;
  device_.add_gated(view_of(x, 2), view_of(gate, 2), view_of(delta, 2));
  for (uint32_t i = 0; i < x.size(); ++i) {
    const double share = 1 / (1 + std::exp(-static_cast<double>(gate[i / kHidden])));
    ASSERT_NEAR(x[i], before[i] + share * static_cast<double>(delta[i]), 1e-6);
  }
}

}  // namespace
}  // namespace trireme::worker::cpu
