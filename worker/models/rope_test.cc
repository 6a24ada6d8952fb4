// Goal: what Rope refuses and how longrope chooses its factors. The angles themselves are compared
// with transformers' in tests/numerics.
#include "worker/models/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trireme::worker {
namespace {

ModelConfig longrope(uint32_t positions_max) {
  ModelConfig config;
  config.head_dim = 4;
  config.positions_max = positions_max;
  config.rope_scaling.type = "longrope";
  config.rope_scaling.original_positions_max = 16;
  config.rope_scaling.short_factor = {1, 2};
  config.rope_scaling.long_factor = {4, 8};
  return config;
}

float first_angle(const ModelConfig& config, uint32_t tokens_max = 0) {
  auto rope = Rope::make(config, 4, tokens_max);
  EXPECT_TRUE(rope.ok()) << rope.status();
  const int32_t position = 1;
  const RotaryAngles angles = rope->angles(std::span(&position, 1));
  return std::atan2(angles.sines[0], angles.cosines[0]);
}

std::string refusal(const ModelConfig& config, uint32_t rotary_size) {
  return std::string(Rope::make(config, rotary_size).status().message());
}

TEST(Rope, a_longrope_model_turns_by_its_long_factors_at_every_position) {
  EXPECT_NEAR(first_angle(longrope(16)), 1.0, 1e-6);
  EXPECT_NEAR(first_angle(longrope(64)), 0.25, 1e-6);
}

TEST(Rope, a_longrope_model_that_is_served_short_turns_by_its_short_factors) {
  EXPECT_NEAR(first_angle(longrope(64), 16), 1.0, 1e-6);
  EXPECT_NEAR(first_angle(longrope(64), 17), 0.25, 1e-6);
}

TEST(Rope, what_longrope_is_stretched_by_is_the_models_matter) {
  auto rope = Rope::make(longrope(64), 4, 16);
  ASSERT_TRUE(rope.ok()) << rope.status();
  const int32_t position = 0;
  const double stretch = std::sqrt(1 + std::log(4.0) / std::log(16.0));
  EXPECT_NEAR(rope->angles(std::span(&position, 1)).cosines[0], stretch, 1e-6);
}

TEST(Rope, longrope_without_a_factor_for_each_pair_is_refused) {
  EXPECT_EQ(refusal(longrope(64), 8),
            "config.json: longrope's long_factor has 2 factors, not one for each of the 4 pairs");
  ModelConfig config = longrope(64);
  config.rope_scaling.long_factor[1] = 0;
  EXPECT_EQ(refusal(config, 4), "config.json: longrope has the factor 0");
}

TEST(Rope, another_type_is_refused_with_the_list) {
  ModelConfig config = longrope(64);
  config.rope_scaling.type = "spiral";
  EXPECT_EQ(refusal(config, 4),
            "config.json: rope type \"spiral\" is not supported; supported are default, linear, "
            "dynamic, llama3, longrope, yarn");
}

TEST(Rope, an_odd_part_of_a_head_cannot_turn) {
  ModelConfig config;
  config.head_dim = 4;
  EXPECT_EQ(refusal(config, 3),
            "config.json: 3 of a head's 4 values would turn: not an even number");
}

}  // namespace
}  // namespace trireme::worker
