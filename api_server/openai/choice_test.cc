// Choice: whatever pieces the engine's tokens come in, the joined deltas are the same.
#include "api_server/openai/choice.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

class ChoiceTest : public testing::Test {
 protected:
  // Feeds the letters `size` at a time; the deltas joined.
  ChoiceDelta feed(const GenerateRequest& request, std::string_view letters, std::size_t size,
                   wire::FinishReason last = wire::FinishReason::kLength) {
    Choice choice(request, tokenizer_, {1}, "");
    ChoiceDelta all;
    for (std::size_t at = 0; at < letters.size() && !choice.has_ended(); at += size) {
      wire::EngineOutput output;
      for (const char letter : letters.substr(at, size)) {
        output.token_ids.push_back(*tokenizer_.token_id(std::string(1, letter)));
      }
      if (at + size >= letters.size()) output.finish_reason = last;
      ChoiceDelta delta;
      needed_abort_ = choice.take(output, delta);
      all.append(delta);
    }
    completion_tokens_ = choice.completion_tokens();
    return all;
  }

  const text::Tokenizer tokenizer_ = *text::Tokenizer::load("text/testdata/byte_level");
  bool needed_abort_ = false;
  uint32_t completion_tokens_ = 0;
};

TEST_F(ChoiceTest, the_joined_text_does_not_depend_on_the_pieces) {
  GenerateRequest request;
  request.stop = {"hij", "cdx"};
  for (std::size_t size = 1; size <= 12; ++size) {
    const ChoiceDelta all = feed(request, "abcdefghijkl", size);
    EXPECT_EQ(all.text, "abcdefg") << size;
    EXPECT_EQ(all.stop_reason_json, "\"hij\"");
    EXPECT_EQ(completion_tokens_, 10u);  // Tokens after the stop are not counted.
  }
}

TEST_F(ChoiceTest, held_back_text_comes_when_no_stop_follows) {
  GenerateRequest request;
  request.stop = {"cdx"};
  EXPECT_EQ(feed(request, "abcd", 1).text, "abcd");
}

TEST_F(ChoiceTest, a_stop_in_mid_stream_asks_for_an_abort_and_one_at_the_end_does_not) {
  GenerateRequest request;
  request.stop = {"b"};
  feed(request, "abcd", 1);
  EXPECT_TRUE(needed_abort_);
  feed(request, "ab", 2);
  EXPECT_FALSE(needed_abort_);
}

TEST_F(ChoiceTest, stops_are_not_looked_for_before_min_tokens) {
  GenerateRequest request;
  request.stop = {"a"};
  request.sampling.output_tokens_min = 2;
  EXPECT_EQ(feed(request, "aaaa", 1).text, "aa");
}

TEST_F(ChoiceTest, the_token_that_ended_it_shows_only_if_asked_for) {
  GenerateRequest request;
  EXPECT_EQ(feed(request, "abc", 1, wire::FinishReason::kStop).text, "ab");
  EXPECT_EQ(completion_tokens_, 3u);
  request.include_stop_in_output = true;
  EXPECT_EQ(feed(request, "abc", 1, wire::FinishReason::kStop).text, "abc");
}

}  // namespace
}  // namespace trireme::api
