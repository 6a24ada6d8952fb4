// Goal: times and counts of an answer, and why it failed, are what the bytes and their arrival say.
#include "cli/bench/answer_reader.h"

#include <gtest/gtest.h>

namespace trireme::bench {
namespace {

using std::chrono::milliseconds;

class AnswerReaderTest : public testing::Test {
 protected:
  AnswerReaderTest() {
    sample.start = at(0);
    sample.prompt_tokens = 5;
  }
  static Instant at(int64_t ms) { return Instant(milliseconds(ms)); }
  void stream() { reader.on_head(200, "text/event-stream; charset=utf-8"); }
  Status event(int64_t ms, const std::string& data) {
    return reader.on_body("data: " + data + "\n\n", at(ms));
  }

  Sample sample;
  JsonScratch scratch;
  AnswerReader reader{sample, scratch};
};

TEST_F(AnswerReaderTest, times_of_a_stream_are_those_of_its_pieces) {
  stream();
  ASSERT_TRUE(event(10, R"({"choices":[{"index":0,"text":"a"}]})").ok());
  ASSERT_TRUE(event(12, R"({"choices":[{"index":0,"text":"b"}]})").ok());
  ASSERT_TRUE(event(17, R"({"choices":[{"index":0,"text":"","finish_reason":"length"}]})").ok());
  ASSERT_TRUE(
      event(20, R"({"choices":[],"usage":{"prompt_tokens":6,"completion_tokens":4}})").ok());
  ASSERT_TRUE(event(21, "[DONE]").ok());
  reader.finish(at(22));
  EXPECT_EQ(sample.state, SampleState::kCompleted);
  EXPECT_EQ(sample.ttft, milliseconds(10));
  EXPECT_EQ(sample.itls, (std::vector<Duration>{milliseconds(2), milliseconds(5)}));
  EXPECT_EQ(sample.latency, milliseconds(17));
  EXPECT_EQ(sample.prompt_tokens, 6);
  EXPECT_EQ(sample.output_tokens, 4);
}

TEST_F(AnswerReaderTest, role_that_opens_a_chat_is_not_its_first_token) {
  stream();
  ASSERT_TRUE(
      event(3, R"({"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]})")
          .ok());
  ASSERT_TRUE(event(9, R"({"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]})").ok());
  ASSERT_TRUE(event(9, "[DONE]").ok());
  reader.finish(at(9));
  EXPECT_EQ(sample.ttft, milliseconds(9));
  EXPECT_EQ(sample.output_tokens, 1);
}

TEST_F(AnswerReaderTest, pieces_are_counted_where_the_server_gives_no_usage) {
  stream();
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(event(i, R"({"choices":[{"text":"a"}],"usage":null})").ok());
  }
  ASSERT_TRUE(event(4, "[DONE]").ok());
  reader.finish(at(4));
  EXPECT_EQ(sample.output_tokens, 3);
  EXPECT_EQ(sample.prompt_tokens, 5);
}

TEST_F(AnswerReaderTest, answer_that_is_not_streamed_comes_at_its_end) {
  reader.on_head(200, "application/json");
  ASSERT_TRUE(reader.on_body(R"({"choices":[{"text":"abc"}],"usa)", at(5)).ok());
  ASSERT_TRUE(reader.on_body(R"(ge":{"prompt_tokens":2,"completion_tokens":3}})", at(6)).ok());
  reader.finish(at(7));
  EXPECT_EQ(sample.state, SampleState::kCompleted);
  EXPECT_EQ(sample.ttft, milliseconds(7));
  EXPECT_EQ(sample.latency, milliseconds(7));
  EXPECT_EQ(sample.output_tokens, 3);
}

TEST_F(AnswerReaderTest, refusal_is_its_status_and_message) {
  reader.on_head(400, "application/json");
  ASSERT_TRUE(reader.on_body(R"({"error":{"message":"too long:\n9 > 8"}})", at(5)).ok());
  reader.finish(at(5));
  EXPECT_EQ(sample.state, SampleState::kFailed);
  EXPECT_EQ(sample.error, "HTTP 400: too long: 9 > 8");
}

TEST_F(AnswerReaderTest, refusal_that_is_not_json_is_shown_as_it_is) {
  reader.on_head(502, "text/html");
  ASSERT_TRUE(reader.on_body("<h1>Bad Gateway</h1>", at(5)).ok());
  reader.finish(at(5));
  EXPECT_EQ(sample.error, "HTTP 502: <h1>Bad Gateway</h1>");
}

TEST_F(AnswerReaderTest, stream_that_ends_early_or_with_an_error_has_failed) {
  stream();
  ASSERT_TRUE(event(1, R"({"choices":[{"text":"a"}]})").ok());
  reader.finish(at(2));
  EXPECT_EQ(sample.error, "the stream ended without [DONE]");
  const Status status = event(3, R"({"error":{"message":"engine died","code":503}})");
  EXPECT_EQ(status.message(), "error in the stream: engine died");
  EXPECT_FALSE(event(3, "{").ok());
}

}  // namespace
}  // namespace trireme::bench
