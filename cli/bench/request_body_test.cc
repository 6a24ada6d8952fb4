// Goal: bodies say what the flags say, and --extra-body has the last word.
#include "cli/bench/request_body.h"

#include <gtest/gtest.h>

namespace trireme::bench {
namespace {

const std::vector<uint32_t> kPrompt = {5, 6, 7};

std::string text(const BodyOptions& options) {
  const auto body = RequestBody::make(options);
  return body.ok() ? body->text(kPrompt, 9) : std::string(body.status().message());
}

TEST(RequestBody, completion_has_the_ids_and_streams_with_usage) {
  EXPECT_EQ(text({.model = "a\"b", .parameters = {{"temperature", "0"}}}),
            R"({"model":"a\"b","stream":true,"stream_options":{"include_usage":true},)"
            R"("ignore_eos":true,"temperature":0,"max_tokens":9,"prompt":[5,6,7]})");
}

TEST(RequestBody, chat_has_one_message_of_as_many_words) {
  EXPECT_EQ(text({.model = "m", .is_chat = true, .is_stream = false, .ignores_eos = false}),
            R"({"model":"m","stream":false,"max_completion_tokens":9,)"
            R"("messages":[{"role":"user","content":"is that for"}]})");
}

TEST(RequestBody, extra_body_wins_over_every_field) {
  EXPECT_EQ(
      text({.model = "m",
            .extra_body = R"({"stream": false, "prompt": "Hi", "max_tokens": 1, "x": [1, 2]})"}),
      R"({"model":"m","stream":false,"stream_options":{"include_usage":true},)"
      R"("ignore_eos":true,"prompt":"Hi","max_tokens":1,"x":[1,2]})");
}

TEST(RequestBody, extra_body_that_is_not_an_object_is_refused_with_its_text) {
  EXPECT_EQ(text({.model = "m", .extra_body = "[1]"}), "'[1]' is not a JSON object");
  EXPECT_EQ(text({.model = "m", .extra_body = "{"}), "'{' is not a JSON object");
}

TEST(RequestBody, batch_is_a_list_of_prompts) {
  const auto body = RequestBody::make({.model = "m", .is_stream = false, .choices = 2});
  ASSERT_TRUE(body.ok());
  EXPECT_EQ(body->batch_text({{1, 2}, {3}}, 4),
            R"({"model":"m","stream":false,"ignore_eos":true,"n":2,"max_tokens":4,)"
            R"("prompt":[[1,2],[3]]})");
}

}  // namespace
}  // namespace trireme::bench
