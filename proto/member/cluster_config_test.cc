// What members compare at HELLO: the same values as words a user would type.
#include <gtest/gtest.h>

#include "common/options/serve_options.h"
#include "proto/member/member_link.h"

namespace trireme::member {
namespace {

std::string value_of(const ServeOptions& options, std::string_view name) {
  for (const wire::ConfigEntry& entry : cluster_config(options)) {
    if (entry.name == name) return entry.value;
  }
  return "not compared";
}

TEST(ClusterConfig, a_length_that_was_not_given_is_auto_and_not_zero) {
  ServeOptions options;
  EXPECT_EQ(value_of(options, "max-model-len"), "auto");
  options.model.model_tokens_max = 512;
  EXPECT_EQ(value_of(options, "max-model-len"), "512");
}

TEST(ClusterConfig, what_only_front_ends_use_may_differ) {
  EXPECT_EQ(value_of(ServeOptions{}, "seed"), "not compared");
}

TEST(ClusterConfig, how_experts_are_placed_is_the_same_on_all_or_refused) {
  ServeOptions options;
  EXPECT_EQ(value_of(options, "eplb-config"), "none");
  options.parallel.expert_balancing = {.is_on = true, .redundant_count = 4, .logs = true};
  EXPECT_EQ(value_of(options, "eplb-config"),
            "window_size 1000, step_interval 3000, num_redundant_experts 4, moves_per_step 1");
}

TEST(ClusterConfig, models_are_compared_by_what_they_are_and_not_by_where_they_lie) {
  ServeOptions options;
  options.model.model = "/here/demo";
  EXPECT_EQ(value_of(options, "model"), "not compared") << "nobody has looked into it";
  options.internal.model_fingerprint = "LlamaForCausalLM 0123456789abcdef";
  EXPECT_EQ(value_of(options, "model"), "LlamaForCausalLM 0123456789abcdef");
}

TEST(ClusterConfig, instructions_that_auto_is_not_yet_are_not_compared) {
  EXPECT_EQ(value_of(ServeOptions{}, "cpu-kernels"), "not compared") << "engines append theirs";
}

}  // namespace
}  // namespace trireme::member
