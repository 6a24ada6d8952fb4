#include "common/options/speculation.h"

#include <gtest/gtest.h>

#include "common/options/serve_flags.h"

namespace trireme {
namespace {

StatusOr<SpeculationOptions> parse(std::string_view json, uint32_t tensor_parallel_size = 1) {
  SpeculationOptions speculation;
  TRIREME_RETURN_IF_ERROR(read_speculation(json, speculation));
  TRIREME_RETURN_IF_ERROR(validate_speculation(speculation, tensor_parallel_size));
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

TEST(SpeculationFlag, a_model_says_the_method) {
  const auto read = parse(R"({"model":"org/tiny","num_speculative_tokens":3,"revision":"v2",
                              "quantization":"int8","max_model_len":512,
                              "draft_tensor_parallel_size":1})",
                          4);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->has_draft_model());
  EXPECT_EQ(read->model, "org/tiny");
  EXPECT_EQ(read->revision, "v2");
  EXPECT_EQ(read->quantization, "int8");
  EXPECT_EQ(read->model_tokens_max, 512u);
  EXPECT_EQ(read->tensor_parallel_size, 1u);
}

TEST(SpeculationFlag, the_peers_older_word_for_prompt_lookup_is_one) {
  for (const std::string name : {"ngram", "[ngram]"}) {
    const auto read = parse(R"({"model":")" + name + R"(","num_speculative_tokens":3})");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->method, "ngram");
  }
}

TEST(SpeculationFlag, what_a_draft_model_cannot_be_is_refused) {
  EXPECT_EQ(message(R"({"model":"m"})"),
            "--speculative-config: num_speculative_tokens 0 is not in 1 to 16");
  EXPECT_EQ(message(R"({"method":"draft_model","num_speculative_tokens":2})"),
            "--speculative-config: method draft_model needs a model: a directory or a hub id");
  EXPECT_EQ(message(R"({"model":"m","num_speculative_tokens":2,"draft_tensor_parallel_size":3})"),
            "--speculative-config: draft_tensor_parallel_size 3 is neither 1 nor "
            "--tensor-parallel-size 1");
  EXPECT_EQ(message(R"({"model":"m","num_speculative_tokens":2,"prompt_lookup_max":3})"),
            "--speculative-config: prompt_lookup_max does not belong to the method draft_model");
  EXPECT_EQ(message(R"({"method":"ngram","num_speculative_tokens":2,"quantization":"int8"})"),
            "--speculative-config: quantization does not belong to the method ngram");
}

TEST(SpeculationFlag, what_is_not_supported_is_refused_by_name) {
  EXPECT_EQ(message(R"({"method":"eagle","num_speculative_tokens":2})"),
            "--speculative-config: method 'eagle' is not supported; supported: ngram, draft_model");
  EXPECT_NE(message(R"({"model":"tiny","num_speculative_tokens":2,"rejection_sample_method":"x"})")
                .find("rejection_sample_method: is not supported; there are method,"),
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
            "--speculative-config needs a method; supported: ngram, draft_model");
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
            "--speculative-config: method 'medusa' is not supported; supported: ngram, "
            "draft_model");
}

}  // namespace
}  // namespace trireme
