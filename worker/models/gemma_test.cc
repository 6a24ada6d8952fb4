#include "worker/models/gemma.h"

#include <gtest/gtest.h>

namespace trireme::worker {
namespace {

ModelConfig six_layers(bool has_layer_types) {
  ModelConfig config;
  config.layer_count = 6;
  config.sliding_window = 8;
  config.layer_is_sliding.assign(6, 1);
  config.has_layer_types = has_layer_types;
  return config;
}

TEST(Gemma, without_layer_types_each_last_layer_of_a_period_sees_all_positions) {
  ModelConfig config = six_layers(false);
  set_window_pattern(2, config);
  EXPECT_EQ(windows_of(config), (std::vector<uint32_t>{8, 0, 8, 0, 8, 0}));
  set_window_pattern(6, config);
  EXPECT_EQ(windows_of(config), (std::vector<uint32_t>{8, 8, 8, 8, 8, 0}));
}

TEST(Gemma, layer_types_that_are_written_count) {
  ModelConfig config = six_layers(true);
  set_window_pattern(2, config);
  EXPECT_EQ(windows_of(config), std::vector<uint32_t>(6, 8));
}

}  // namespace
}  // namespace trireme::worker
