#include <gtest/gtest.h>

#include "common/options/serve_flags.h"

namespace trireme {
namespace {

StatusOr<ServeOptions> parse(std::vector<const char*> arguments,
                             std::vector<std::string>* notices = nullptr) {
  arguments.insert(arguments.begin(), "no-such-model");
  return parse_serve_flags(arguments, notices);
}

StatusOr<ServeOptions> parse_config(const char* json, std::vector<std::string>* notices = nullptr) {
  return parse({"-dp", "2", "-ep", "--enable-eplb", "--eplb-config", json}, notices);
}

std::string message(const StatusOr<ServeOptions>& parsed) {
  return std::string(parsed.status().message());
}

TEST(ExpertBalancingFlags, config_says_how_and_what_is_not_named_keeps_its_default) {
  const auto options =
      parse_config(R"({"window_size": 50, "num_redundant_experts": 4, "moves_per_step": 3,
                       "log_balancedness": true})");
  ASSERT_TRUE(options.ok()) << options.status();
  const ExpertBalancingOptions& balancing = options->parallel.expert_balancing;
  EXPECT_TRUE(balancing.is_on);
  EXPECT_EQ(balancing.window_size, 50U);
  EXPECT_EQ(balancing.step_interval, 3000U);
  EXPECT_EQ(balancing.redundant_count, 4U);
  EXPECT_EQ(balancing.moves_per_step, 3U);
  EXPECT_TRUE(balancing.logs);
}

TEST(ExpertBalancingFlags, older_flags_are_its_fields) {
  const auto options = parse({"-tp", "2", "-ep", "--enable-eplb", "--num-redundant-experts", "3",
                              "--eplb-window-size", "20", "--eplb-step-interval", "40"});
  ASSERT_TRUE(options.ok()) << options.status();
  const ExpertBalancingOptions& balancing = options->parallel.expert_balancing;
  EXPECT_EQ(balancing.redundant_count, 3U);
  EXPECT_EQ(balancing.window_size, 20U);
  EXPECT_EQ(balancing.step_interval, 40U);
  EXPECT_EQ(balancing.moves_per_step, 1U);
  EXPECT_FALSE(balancing.logs);
}

TEST(ExpertBalancingFlags, what_is_not_there_or_does_not_fit_is_refused_by_name) {
  EXPECT_EQ(message(parse_config(R"({"window": 5})")),
            "--eplb-config: window: is not supported; there are window_size, step_interval, "
            "num_redundant_experts, moves_per_step and log_balancedness");
  EXPECT_EQ(message(parse_config(R"({"policy": "random"})")),
            "--eplb-config: policy: 'random' is not supported; there is default");
  EXPECT_EQ(message(parse_config(R"({"step_interval": 0})")),
            "--eplb-config: step_interval 0: must be at least 1");
  EXPECT_EQ(message(parse_config(R"({"window_size": 0})")),
            "--eplb-config: window_size 0: must be at least 1");
  EXPECT_EQ(
      message(parse_config(R"({"moves_per_step": 0})")),
      "--eplb-config: moves_per_step 0: must be at least 1, or no expert would ever come to a "
      "node that has to load it");
  EXPECT_EQ(message(parse_config(R"({"num_redundant_experts": -1})")),
            "--eplb-config: num_redundant_experts: '-1' is not a number in range");
}

TEST(ExpertBalancingFlags, it_needs_experts_over_several_ranks) {
  EXPECT_EQ(message(parse({"-dp", "2", "--enable-eplb"})),
            "--enable-eplb needs --enable-expert-parallel: every rank has all experts without it");
  EXPECT_EQ(message(parse({"-ep", "--enable-eplb"})),
            "--enable-eplb: one rank has nobody to share experts with; it needs "
            "--data-parallel-size or --tensor-parallel-size above 1");
  EXPECT_EQ(message(parse({"-dp", "2", "-ep", "--num-redundant-experts", "2"})),
            "--eplb-config: num_redundant_experts 2 needs --enable-eplb");
}

TEST(ExpertBalancingFlags, fields_that_say_how_weights_are_moved_get_a_notice) {
  std::vector<std::string> notices;
  ASSERT_TRUE(parse_config(R"({"use_async": true, "policy": "default"})", &notices).ok());
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_EQ(notices.front(),
            "--eplb-config: use_async, communicator and log_balancedness_interval have no effect: "
            "experts move without their weights, and with a line for each time");
  notices.clear();
  ASSERT_TRUE(parse_config(R"({"window_size": 10})", &notices).ok());
  EXPECT_TRUE(notices.empty());
}

}  // namespace
}  // namespace trireme
