#include "common/options/speculation.h"

#include <gtest/gtest.h>

#include "common/options/serve_flags.h"

namespace trireme {
namespace {

StatusOr<SpeculationOptions> parse(std::string_view json) {
  SpeculationOptions speculation;
  TRIREME_RETURN_IF_ERROR(read_speculation(json, speculation));
  TRIREME_RETURN_IF_ERROR(validate_speculation(speculation));
  return speculation;
}

std::string message(std::string_view json) { return std::string(parse(json).status().message()); }

TEST(SpeculationFlag, the_peers_object_reads_as_it_is) {
  const auto read = parse(
      R"({"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":3,"prompt_lookup_min":2})");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->tokens_max, 4u);
  EXPECT_EQ(read->shortest(), 2u);
  EXPECT_EQ(read->longest(), 3u);
}

TEST(SpeculationFlag, bounds_that_are_not_given_are_the_peers) {
  const auto none = parse(R"({"method": "ngram", "num_speculative_tokens": 2})");
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->shortest(), 5u);
  EXPECT_EQ(none->longest(), 5u);
  const auto one = parse(R"({"method":"ngram","num_speculative_tokens":2,"prompt_lookup_max":3})");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->shortest(), 3u);
}

TEST(SpeculationFlag, what_is_not_supported_is_refused_by_name) {
  EXPECT_EQ(message(R"({"method":"eagle","num_speculative_tokens":2})"),
            "--speculative-config: method 'eagle' is not supported; supported: ngram");
  EXPECT_EQ(message(R"({"model":"tiny","num_speculative_tokens":2})"),
            "model: 'tiny': draft models are not supported, only the method ngram");
  EXPECT_NE(message(R"({"method":"ngram","draft_tensor_parallel_size":2})")
                .find("draft_tensor_parallel_size: is not supported; there are method,"),
            std::string::npos);
}

TEST(SpeculationFlag, bad_values_are_refused_with_field_and_value) {
  EXPECT_EQ(message(R"({"method":"ngram"})"),
            "--speculative-config: num_speculative_tokens 0 is not in 1 to 16");
  EXPECT_EQ(message(R"({"method":"ngram","num_speculative_tokens":17})"),
            "--speculative-config: num_speculative_tokens 17 is not in 1 to 16");
  EXPECT_EQ(message(R"({"method":"ngram","num_speculative_tokens":"x"})"),
            "num_speculative_tokens: 'x' is not a number in range");
  EXPECT_EQ(message(R"({"method":"ngram","num_speculative_tokens":2,"prompt_lookup_min":0})"),
            "--speculative-config: prompt_lookup_min 0 is not in 1 to 16");
  EXPECT_EQ(
      message(
          R"({"method":"ngram","num_speculative_tokens":2,"prompt_lookup_min":4,"prompt_lookup_max":3})"),
      "--speculative-config: prompt_lookup_min 4 is above prompt_lookup_max 3");
  EXPECT_EQ(message(R"({"num_speculative_tokens":2})"),
            "--speculative-config needs a method; supported: ngram");
  EXPECT_EQ(message(R"({"method":["ngram"]})"), "method is not a single value");
}

TEST(SpeculationFlag, what_is_no_object_is_refused) {
  EXPECT_EQ(message("ngram"), "'ngram' is not a JSON object");
  EXPECT_NE(message(R"({"method":)").find("is not a JSON object"), std::string::npos);
  EXPECT_NE(message("").find("is not a JSON object"), std::string::npos);
}

std::string flags_message(std::vector<const char*> flags) {
  return std::string(parse_serve_flags(flags, nullptr).status().message());
}

TEST(SchedulerFlags, their_limits_are_checked_together) {
  EXPECT_EQ(
      flags_message({"m", "--max-num-partial-prefills", "2", "--max-long-partial-prefills", "3"}),
      "--max-long-partial-prefills 3 is above --max-num-partial-prefills 2");
  EXPECT_EQ(flags_message({"m", "--priority-ageing-seconds", "3601"}),
            "--priority-ageing-seconds 3601: at most 3600; 0 for strict priorities");
  EXPECT_EQ(flags_message({"m", "-sc", R"({"method":"medusa"})"}),
            "--speculative-config: method 'medusa' is not supported; supported: ngram");
}

}  // namespace
}  // namespace trireme
