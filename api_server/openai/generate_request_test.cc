// RequestReader: what is accepted, and that each refusal names its field.
#include "api_server/openai/generate_request.h"

#include <gtest/gtest.h>

#include "api_server/field_error.h"

namespace trireme::api {
namespace {

StatusOr<GenerateRequest> completion(const std::string& body) {
  RequestReader reader({});
  return reader.read_completion(body);
}
StatusOr<GenerateRequest> chat(const std::string& body) {
  RequestReader reader({});
  return reader.read_chat(body);
}

TEST(RequestReader, all_four_kinds_of_prompt_are_read) {
  EXPECT_EQ(completion(R"({"prompt":"a"})")->prompts[0].text, "a");
  EXPECT_EQ(completion(R"({"prompt":["a","b"]})")->prompts[1].text, "b");
  EXPECT_EQ(completion(R"({"prompt":[1,2]})")->prompts[0].token_ids, (std::vector{1, 2}));
  EXPECT_EQ(completion(R"({"prompt":[[1],[2,3]]})")->prompts[1].token_ids, (std::vector{2, 3}));
}

TEST(RequestReader, every_sampling_field_lands_where_it_belongs) {
  const auto request = completion(
      R"({"prompt":"a","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"n":2,"seed":7,)"
      R"("presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"max_tokens":9,)"
      R"("min_tokens":2,"ignore_eos":true,"stop_token_ids":[3],"allowed_token_ids":[4],)"
      R"("logit_bias":{"5":200},"stop":["x","y"],"include_stop_str_in_output":true,)"
      R"("skip_special_tokens":false,"priority":-3,"cache_salt":"s","logprobs":2,"unknown":{}})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling.temperature, 0.5F);
  EXPECT_EQ(request->sampling.top_k, 40);
  EXPECT_EQ(request->sampling.output_tokens_min, 2u);
  EXPECT_TRUE(request->sampling.ignore_eos);
  EXPECT_EQ(request->sampling.logit_bias[0].bias, 100.0F);
  EXPECT_EQ(request->sampling.logprobs, 2);
  EXPECT_EQ(request->output_tokens_max, 9u);
  EXPECT_EQ(request->seed, 7u);
  EXPECT_EQ(request->priority, -3);
  EXPECT_EQ(request->stop.size(), 2u);
  EXPECT_FALSE(request->skip_special_tokens);
}

TEST(RequestReader, token_ids_out_of_the_vocabulary_are_refused) {
  RequestReader reader({.vocabulary_size = 100});
  const auto field = [&](const char* body) {
    return field_of(reader.read_completion(body).status());
  };
  EXPECT_EQ(field(R"({"prompt":"a","allowed_token_ids":[99,100]})"), "allowed_token_ids");
  EXPECT_EQ(field(R"({"prompt":"a","allowed_token_ids":[]})"), "allowed_token_ids");
  EXPECT_EQ(field(R"({"prompt":"a","logit_bias":{"100":1}})"), "logit_bias");
  EXPECT_TRUE(
      reader.read_completion(R"({"prompt":"a","allowed_token_ids":[99],"logit_bias":{"99":1}})")
          .ok());
}

TEST(RequestReader, max_completion_tokens_wins_over_max_tokens_in_either_order) {
  const std::string messages = R"("messages":[{"role":"user","content":"x"}])";
  for (const char* const both : {R"("max_tokens":3,"max_completion_tokens":5)",
                                 R"("max_completion_tokens":5,"max_tokens":3)"}) {
    EXPECT_EQ(chat("{" + messages + "," + both + "}")->output_tokens_max, 5u);
  }
  EXPECT_EQ(chat("{" + messages + R"(,"max_tokens":3})")->output_tokens_max, 3u);
}

TEST(RequestReader, min_tokens_is_held_against_the_default_of_max_tokens) {
  EXPECT_EQ(field_of(completion(R"({"prompt":"a","min_tokens":17})").status()), "min_tokens");
  EXPECT_TRUE(completion(R"({"prompt":"a","min_tokens":16})").ok());
  EXPECT_TRUE(chat(R"({"messages":[{"role":"user","content":"x"}],"min_tokens":17})").ok());
}

TEST(RequestReader, logprobs_of_minus_one_are_the_whole_vocabulary_under_the_same_bound) {
  RequestReader free({.logprobs_max = -1, .vocabulary_size = 100});
  const auto all = free.read_completion(R"({"prompt":"a","logprobs":-1,"prompt_logprobs":-1})");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->sampling.logprobs, 100);
  EXPECT_EQ(all->sampling.prompt_logprobs, 100);
  const auto chat_all = free.read_chat(
      R"({"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":-1})");
  ASSERT_TRUE(chat_all.ok()) << chat_all.status();
  EXPECT_EQ(chat_all->sampling.logprobs, 100);
  RequestReader bounded({.logprobs_max = 20, .vocabulary_size = 100});
  const auto field = [&](const char* body) {
    return field_of(bounded.read_completion(body).status());
  };
  EXPECT_EQ(field(R"({"prompt":"a","logprobs":-1})"), "logprobs");
  const auto refused = bounded.read_completion(R"({"prompt":"a","logprobs":-1})").status();
  EXPECT_NE(refused.message().find("got -1, which is all 100"), refused.message().npos) << refused;
  EXPECT_EQ(field(R"({"prompt":"a","prompt_logprobs":-1})"), "prompt_logprobs");
  EXPECT_EQ(field(R"({"prompt":"a","logprobs":-2})"), "logprobs");
}

TEST(RequestReader, nulls_are_as_good_as_absent) {
  const auto request = completion(R"({"prompt":"a","temperature":null,"stop":null,"n":null})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->sampling.temperature, 1.0F);
  EXPECT_EQ(request->n, 1u);
}

TEST(RequestReader, a_best_of_that_ranks_nothing_is_taken) {
  EXPECT_TRUE(completion(R"({"prompt":"a","n":3,"best_of":3})").ok());
  EXPECT_TRUE(completion(R"({"prompt":"a","n":3,"best_of":1})").ok());
}

TEST(RequestReader, each_refusal_names_its_field) {
  const auto field = [](const char* body) { return field_of(completion(body).status()); };
  EXPECT_EQ(field(R"({"prompt":"a","temperature":3})"), "temperature");
  EXPECT_EQ(field(R"({"prompt":"a","temperature":true})"), "temperature");
  EXPECT_EQ(field(R"({"prompt":"a","n":0})"), "n");
  EXPECT_EQ(field(R"({"prompt":"a","n":1.5})"), "n");
  EXPECT_EQ(field(R"({"prompt":"a","n":2,"temperature":0})"), "n");
  EXPECT_EQ(field(R"({"prompt":"a","stop":["a","b","c","d","e"]})"), "stop");
  EXPECT_EQ(field(R"({"prompt":"a","best_of":2})"), "best_of");
  EXPECT_EQ(field(R"({"prompt":"a","n":2,"best_of":3})"), "best_of");
  EXPECT_EQ(field(R"({"prompt":"a","stop":""})"), "stop");
  EXPECT_EQ(field(R"({"prompt":[1,"a"]})"), "prompt");
  EXPECT_EQ(field(R"({"prompt":[-1]})"), "prompt");
  EXPECT_EQ(field(R"({"prompt":[]})"), "prompt");
  EXPECT_EQ(field(R"({"prompt":"a","max_tokens":0})"), "max_tokens");
  EXPECT_EQ(field(R"({"prompt":"a","min_tokens":5,"max_tokens":2})"), "min_tokens");
  EXPECT_EQ(field(R"({"prompt":"a","logprobs":99})"), "logprobs");
  EXPECT_EQ(field(R"({"prompt":"a","logit_bias":{"x":1}})"), "logit_bias");
  EXPECT_EQ(field(R"({"prompt":"a","stream_options":{"include_usage":true}})"), "stream_options");
  EXPECT_EQ(field(R"({"prompt":"a","stream":true,"prompt_logprobs":1})"), "prompt_logprobs");
  EXPECT_EQ(field(R"({"prompt":"a","stream":"yes"})"), "stream");
  EXPECT_EQ(field(R"({"prompt":"a","use_beam_search":true})"), "use_beam_search");
  EXPECT_EQ(field(R"({"prompt":"a","structured_outputs":{}})"), "structured_outputs");
}

TEST(RequestReader, chat_takes_text_parts_as_one_string_and_refuses_others_by_type) {
  const auto request = chat(
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text",)"
      R"("text":"b"}]},{"role":"assistant","content":null}],"max_completion_tokens":5,)"
      R"("tools":[{"type":"function"}],"tool_choice":"none","logprobs":true,"top_logprobs":3})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->messages_json,
            R"([{"role":"user","content":"a\nb"},{"role":"assistant","content":null}])");
  EXPECT_EQ(request->output_tokens_max, 5u);
  EXPECT_EQ(request->tools_json, R"([{"type":"function"}])");
  EXPECT_EQ(request->sampling.logprobs, 3);
  const auto image =
      chat(R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})");
  EXPECT_EQ(field_of(image.status()), "messages.content");
}

TEST(RequestReader, a_cache_salt_is_a_string_that_is_neither_empty_nor_endless) {
  const auto salted = [](const std::string& salt) {
    return completion(R"({"prompt":"a","cache_salt":)" + salt + "}");
  };
  const auto quoted = [](std::size_t bytes) { return '"' + std::string(bytes, 's') + '"'; };
  const Status empty = salted(R"("")").status();
  EXPECT_EQ(field_of(empty), "cache_salt");
  EXPECT_NE(empty.message().find("must be a non-empty string"), empty.message().npos) << empty;
  EXPECT_EQ(
      field_of(chat(R"({"messages":[{"role":"user","content":"x"}],"cache_salt":""})").status()),
      "cache_salt");
  EXPECT_EQ(field_of(salted(quoted(1025)).status()), "cache_salt");
  EXPECT_EQ(field_of(salted("7").status()), "cache_salt");
  EXPECT_EQ(salted(quoted(1024))->cache_salt.size(), 1024u);
  EXPECT_EQ(salted("null")->cache_salt, "");
}

TEST(RequestReader, tools_whose_calls_nobody_reads_are_refused_unless_choice_is_none) {
  const auto field = [](const char* rest) {
    return field_of(
        chat(std::string(R"({"messages":[{"role":"user","content":"x"}])") + rest + "}").status());
  };
  const std::string tools = R"(,"tools":[{"type":"function"}])";
  EXPECT_EQ(field(tools.c_str()), "tool_choice");
  EXPECT_EQ(field((tools + R"(,"tool_choice":"auto")").c_str()), "tool_choice");
  EXPECT_EQ(field(R"(,"tool_choice":"auto")"), "tool_choice");
  EXPECT_EQ(field((tools + R"(,"tool_choice":"none")").c_str()), "");
  EXPECT_EQ(field(R"(,"echo":true)"), "echo");
  EXPECT_EQ(field(R"(,"echo":false)"), "");
}

TEST(RequestReader, integers_beyond_64_bits_are_numbers_and_only_their_field_minds) {
  const std::string big = "-123456789012345678901234567890";
  EXPECT_TRUE(completion(R"({"prompt":"18446744073709551616\"1","metadata":{"a":[)" + big +
                         ",18446744073709551616]}}")
                  .ok());
  EXPECT_EQ(field_of(completion(R"({"prompt":"a","seed":18446744073709551616})").status()), "seed");
  EXPECT_EQ(field_of(completion(R"({"prompt":"a","n":)" + big + "}").status()), "n");
  EXPECT_EQ(completion(R"({"prompt":"a","seed":9223372036854775807,"metadata":1)" +
                       std::string(40, '0') + "}")
                ->seed,
            9223372036854775807U);
}

TEST(RequestReader, a_body_that_is_no_json_object_is_refused_whatever_it_is) {
  for (const char* const body :
       {"", "null", "[]", "\"a\"", "{", "{\"a\":}", "{\"prompt\":\"\xff\"}", "{\"a\":1}x", "\0"}) {
    EXPECT_EQ(completion(body).status().code(), StatusCode::kInvalidArgument) << body;
  }
  const std::string deep = R"({"prompt":"a","x":)" + std::string(100'000, '[');
  EXPECT_EQ(completion(deep).status().code(), StatusCode::kInvalidArgument);
}

TEST(RequestReader, every_truncation_of_a_request_is_refused_and_harms_nothing) {
  const std::string body =
      R"({"model":"m","prompt":["a",""],"logit_bias":{"1":2},"stop":["x"],"n":2})";
  RequestReader reader({});
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(reader.read_completion(body.substr(0, size)).ok()) << size;
  }
  EXPECT_TRUE(reader.read_completion(body).ok());
}

}  // namespace
}  // namespace trireme::api
