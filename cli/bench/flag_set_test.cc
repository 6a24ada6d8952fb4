// Goal: a bench command line is read, or refused by a message that names flag and value.
#include "cli/bench/flag_set.h"

#include <gtest/gtest.h>

#include <optional>

namespace trireme::bench {
namespace {

struct Fields {
  uint32_t count = 7;
  double rate = 1;
  bool quiet = false;
  std::optional<double> heat;
  std::vector<std::string> pairs;

  [[nodiscard]] std::vector<Flag> flags() {
    return {flag("num-prompts", "N", "how many", count), flag("request-rate", "R", "rate", rate),
            flag("quiet", "", "say less", quiet), flag("temperature", "T", "heat", heat),
            flag("goodput", "KEY:MS...", "pairs", pairs)};
  }
};

std::string refused(std::vector<const char*> words) {
  Fields fields;
  return std::string(parse_flags(fields.flags(), words, nullptr).message());
}

TEST(FlagSet, values_come_apart_or_with_an_equals_sign_and_underscores_are_dashes) {
  Fields fields;
  const std::vector<const char*> words = {
      "--num_prompts", "12",     "--request-rate=inf", "--quiet", "--goodput",
      "ttft:5",        "tpot:6", "--temperature",      "-1"};
  ASSERT_EQ(parse_flags(fields.flags(), words, nullptr), absl::OkStatus());
  EXPECT_EQ(fields.count, 12);
  EXPECT_GT(fields.rate, 1e300);
  EXPECT_TRUE(fields.quiet);
  EXPECT_EQ(fields.heat, -1);
  EXPECT_EQ(fields.pairs, (std::vector<std::string>{"ttft:5", "tpot:6"}));
}

TEST(FlagSet, a_switch_is_turned_off_by_no) {
  Fields fields{.quiet = true};
  const std::vector<const char*> words = {"--no-quiet"};
  ASSERT_EQ(parse_flags(fields.flags(), words, nullptr), absl::OkStatus());
  EXPECT_FALSE(fields.quiet);
}

TEST(FlagSet, refusals_name_the_flag_the_value_and_the_nearest_name) {
  EXPECT_EQ(refused({"--num-prompts", "many"}), "--num-prompts: 'many' is not a number in range");
  EXPECT_EQ(refused({"--num-prompts"}), "--num-prompts needs a value (N)");
  EXPECT_EQ(refused({"--num-promts", "3"}),
            "unknown flag --num-promts; did you mean --num-prompts?");
  EXPECT_EQ(refused({"--no-num-prompts"}).substr(0, 12), "unknown flag");
  EXPECT_EQ(refused({"demo"}), "unexpected 'demo': only flags are taken here");
}

TEST(FlagSet, what_is_not_ours_is_passed_on_in_its_order) {
  Fields fields;
  const std::vector<const char*> words = {"model", "--num-prompts", "3",       "-dp",
                                          "2",     "--dtype",       "bfloat16"};
  std::vector<const char*> rest;
  ASSERT_EQ(parse_flags(fields.flags(), words, &rest), absl::OkStatus());
  EXPECT_EQ(fields.count, 3);
  std::vector<std::string> texts(rest.begin(), rest.end());
  EXPECT_EQ(texts, (std::vector<std::string>{"model", "-dp", "2", "--dtype", "bfloat16"}));
}

}  // namespace
}  // namespace trireme::bench
