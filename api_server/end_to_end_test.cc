// The front end from the client's socket to an engine's DEALER and back, in one process: the real
// HTTP server, service and engine loop against fake engines that answer from a script.
//
// What must hold: a whole answer is its stream joined; stop strings, usage and finish reasons are
// exact; a disconnect aborts; what is refused is refused with the right status and says when to
// come back; an engine's death ends its requests cleanly and nothing else; bad input harms nobody.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "api_server/fake_engine_for_test.h"
#include "api_server/http/test_client.h"
#include "api_server/server_for_test.h"

namespace trireme::api {
namespace {

using namespace std::chrono_literals;

// The strings of `"<key>":"..."` in the events of a stream, joined. Enough for text without
// escapes.
std::string joined(const std::string& events, const std::string& key) {
  std::string text;
  const std::string mark = "\"" + key + "\":\"";
  for (std::size_t at = events.find(mark); at != std::string::npos; at = events.find(mark, at)) {
    at += mark.size();
    text += events.substr(at, events.find('"', at) - at);
  }
  return text;
}

TEST(EndToEnd, a_completion_answers_with_text_finish_reason_and_usage) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const TestReply reply =
      ask(server.port(), "/v1/completions", R"({"model":"demo","prompt":[5,6,7],"max_tokens":5})");
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(contains(reply.body, R"("object":"text_completion")")) << reply.body;
  EXPECT_EQ(joined(reply.body, "text"), "abcde");
  EXPECT_TRUE(contains(reply.body, R"("finish_reason":"length")"));
  EXPECT_TRUE(contains(reply.body, R"("prompt_tokens":3,"total_tokens":8,"completion_tokens":5)"));
}

TEST(EndToEnd, a_whole_answer_is_its_stream_joined) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  for (const char* const shape :
       {R"("prompt":[5,6],"max_tokens":9)", R"("prompt":"x","max_tokens":9,"stop":["fg"])",
        R"("prompt":[5],"max_tokens":4,"echo":true)", R"("prompt":[5],"max_tokens":9,"n":1)",
        R"("prompt":"y","max_tokens":7,"stop":"zz","include_stop_str_in_output":true)"}) {
    const std::string body(shape);
    const TestReply whole = ask(server.port(), "/v1/completions", "{" + body + "}");
    const TestReply stream =
        ask(server.port(), "/v1/completions", "{" + body + R"(,"stream":true})");
    EXPECT_EQ(whole.status, 200) << whole.body;
    EXPECT_EQ(joined(stream.body, "text"), joined(whole.body, "text")) << shape;
    EXPECT_EQ(joined(stream.body, "finish_reason"), joined(whole.body, "finish_reason")) << shape;
    EXPECT_TRUE(stream.body.ends_with("data: [DONE]\n\n"));
  }
}

TEST(EndToEnd, a_stream_interval_makes_fewer_events_of_the_same_text) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const TestReply stream =
      ask(server.port(), "/v1/completions",
          R"({"prompt":[5,6],"max_tokens":10,"stream":true,"stream_interval":4})");
  EXPECT_EQ(joined(stream.body, "text"), "abcdefghij");
  for (const char* const part : {"a", "bcde", "fghi", "j"}) {
    EXPECT_TRUE(contains(stream.body, absl::StrFormat(R"("text":"%s",)", part))) << stream.body;
  }
}

TEST(EndToEnd, a_chat_goes_through_the_template_and_streams_its_role_first) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const std::string messages =
      R"("messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_tokens":3)";
  const TestReply whole = ask(server.port(), "/v1/chat/completions", "{" + messages + "}");
  EXPECT_EQ(whole.status, 200) << whole.body;
  EXPECT_TRUE(contains(whole.body, R"("message":{"role":"assistant","content":"abc")"))
      << whole.body;
  const TestReply stream =
      ask(server.port(), "/v1/chat/completions",
          "{" + messages + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_EQ(joined(stream.body, "content"), "abc");
  EXPECT_TRUE(contains(stream.body, R"("delta":{"role":"assistant","content":""})"));
  EXPECT_TRUE(contains(stream.body, R"("choices":[],"usage":{"prompt_tokens")")) << stream.body;
  EXPECT_TRUE(contains(engine.last_prompt(), "<|im_start|>user\nhi<|im_end|>"));
}

TEST(EndToEnd, a_stop_string_cuts_the_text_and_aborts_the_engine) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const TestReply reply =
      ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":400,"stop":["cd"]})");
  EXPECT_EQ(joined(reply.body, "text"), "ab");
  EXPECT_TRUE(contains(reply.body, R"("finish_reason":"stop","stop_reason":"cd")")) << reply.body;
  EXPECT_TRUE(contains(reply.body, R"("completion_tokens":4)"));
  EXPECT_TRUE(wait_until([&] { return engine.aborted() == 1; }));
}

TEST(EndToEnd, n_choices_of_several_prompts_have_seeds_of_their_own_and_exact_usage) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const TestReply reply =
      ask(server.port(), "/v1/completions",
          R"({"prompt":[[5,6],[7]],"n":2,"seed":40,"max_tokens":2,"temperature":1})");
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(contains(reply.body, R"({"index":3,)"));
  EXPECT_TRUE(contains(reply.body, R"("prompt_tokens":3,"total_tokens":11,"completion_tokens":8)"));
  EXPECT_EQ(engine.seeds(), (std::vector<uint64_t>{40, 41, 40, 41}));
}

TEST(EndToEnd, logprobs_come_in_both_shapes) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const TestReply completion =
      ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":2,"logprobs":1})");
  EXPECT_TRUE(contains(completion.body,
                       R"("logprobs":{"text_offset":[0,1],"token_logprobs":[-0.5,-0.5],)"
                       R"("tokens":["a","b"],"top_logprobs":[{"a":-0.5},{"b":-0.5}]})"))
      << completion.body;
  const TestReply chat =
      ask(server.port(), "/v1/chat/completions",
          R"({"messages":[{"role":"user","content":"x"}],"max_tokens":1,"logprobs":true})");
  EXPECT_TRUE(contains(chat.body,
                       R"("logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],)"
                       R"("top_logprobs":[]}]})"))
      << chat.body;
}

TEST(EndToEnd, a_chat_shows_its_prompts_tokens_beside_its_choices_a_completion_in_them) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const std::string chat =
      R"({"messages":[{"role":"user","content":"x"}],"max_tokens":2,"return_token_ids":true)";
  const TestReply whole = ask(server.port(), "/v1/chat/completions", chat + "}");
  const std::size_t usage = whole.body.find(R"("usage":)");
  EXPECT_LT(usage, whole.body.find(R"("prompt_token_ids":[)")) << whole.body;
  EXPECT_GT(usage, whole.body.find(R"("token_ids":[)"));
  const TestReply stream = ask(server.port(), "/v1/chat/completions", chat + R"(,"stream":true})");
  EXPECT_TRUE(contains(stream.body, R"("finish_reason":null}],"prompt_token_ids":[)"))
      << stream.body;
  EXPECT_EQ(stream.body.find("prompt_token_ids"), stream.body.rfind("prompt_token_ids"));
  const TestReply completion = ask(server.port(), "/v1/completions",
                                   R"({"prompt":[5],"max_tokens":2,"return_token_ids":true})");
  EXPECT_TRUE(contains(completion.body, R"("prompt_token_ids":[5]}])")) << completion.body;
}

TEST(EndToEnd, a_disconnect_aborts_at_once_streamed_or_not) {
  ServerForTest server;
  FakeEngine engine(server, 0, {.is_silent = true});
  for (int i = 1; i <= 2; ++i) {
    TestClient client(server.port());
    client.send(post("/v1/completions", i == 1 ? R"({"prompt":[5],"max_tokens":9,"stream":true})"
                                               : R"({"prompt":[5],"max_tokens":9})"));
    ASSERT_TRUE(wait_until([&] { return engine.received() == i; }));
    client.close();
    EXPECT_TRUE(wait_until([&] { return engine.aborted() == i; }));
  }
}

TEST(EndToEnd, without_an_engine_it_is_503_and_says_when_to_come_back) {
  ServerForTest server;
  const TestReply reply = ask(server.port(), "/v1/completions", R"({"prompt":[5]})");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("Retry-After"), "1");
  EXPECT_EQ(get(server.port(), "/ready").status, 503);
  EXPECT_EQ(get(server.port(), "/live").status, 200);
}

TEST(EndToEnd, over_the_queue_bound_it_is_429_and_the_rest_goes_on) {
  ServerForTest server({.queued_requests_max = 2});
  FakeEngine engine(server, 0, {.is_silent = true});
  TestClient first(server.port());
  first.send(post("/v1/completions", R"({"prompt":[5],"n":2,"max_tokens":3})"));
  ASSERT_TRUE(wait_until([&] { return engine.received() == 2; }));
  const TestReply reply = ask(server.port(), "/v1/completions", R"({"prompt":[5]})");
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.header("Retry-After"), "1");
  engine.speak();
  EXPECT_EQ(first.read_reply().status, 200);
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":2})").status, 200);
}

TEST(EndToEnd, a_lost_engine_ends_its_requests_and_the_others_go_on) {
  ServerForTest server;
  FakeEngine dead(server, 0, {.is_silent = true});
  TestClient waiting(server.port());
  waiting.send(post("/v1/completions", R"({"prompt":[5],"max_tokens":3})"));
  ASSERT_TRUE(wait_until([&] { return dead.received() == 1; }));
  FakeEngine reborn(server, 0);  // Another life of the same rank.
  const TestReply reply = waiting.read_reply();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("Retry-After"), "1");
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":2})").status, 200);
}

TEST(EndToEnd, a_stream_whose_engine_is_lost_ends_with_an_error_event) {
  ServerForTest server;
  FakeEngine dying(server, 0, {.tokens_max = 2});
  TestClient client(server.port());
  client.send(post("/v1/completions", R"({"prompt":[5],"max_tokens":9,"stream":true})"));
  EXPECT_TRUE(contains(client.read_until("\n\n"), "HTTP/1.1 200"));
  FakeEngine reborn(server, 0);
  const std::string rest = client.read_until("[DONE]");
  EXPECT_TRUE(contains(rest, R"(data: {"error":{"message":)")) << rest;
  EXPECT_TRUE(contains(rest, "service_unavailable_error"));
}

TEST(EndToEnd, a_pinned_rank_is_obeyed_and_a_wrong_one_refused) {
  ServerForTest server;
  FakeEngine zero(server, 0);
  FakeEngine one(server, 1);
  const std::string body = R"({"prompt":[5],"max_tokens":2})";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(ask(server.port(), "/v1/completions", body, "X-data-parallel-rank: 1\r\n").status,
              200);
  }
  EXPECT_EQ(zero.received(), 0);
  EXPECT_EQ(one.received(), 4);
  EXPECT_EQ(ask(server.port(), "/v1/completions", body, "X-data-parallel-rank: 2\r\n").status, 400);
  EXPECT_EQ(ask(server.port(), "/v1/completions", body, "X-data-parallel-rank: x\r\n").status, 400);
}

TEST(EndToEnd, load_is_spread_evenly_over_equal_engines) {
  ServerForTest server;
  FakeEngine zero(server, 0, {.is_silent = true});
  FakeEngine one(server, 1, {.is_silent = true});
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<TestClient>(server.port()));
    clients.back()->send(post("/v1/completions", R"({"prompt":[5]})"));
  }
  EXPECT_TRUE(wait_until([&] { return zero.received() == 5 && one.received() == 5; }));
}

TEST(EndToEnd, wrong_input_is_400_and_names_the_field) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const auto param_of = [&](const char* body, const char* path = "/v1/completions") {
    const TestReply reply = ask(server.port(), path, body);
    EXPECT_EQ(reply.status, 400) << body << reply.body;
    return joined(reply.body, "param");
  };
  EXPECT_EQ(param_of(R"({"prompt":[5],"temperature":"hot"})"), "temperature");
  EXPECT_EQ(param_of(R"({"prompt":[5],"max_tokens":-1})"), "max_tokens");
  EXPECT_EQ(param_of(R"({"prompt":{}})"), "prompt");
  EXPECT_EQ(param_of(R"({})"), "prompt");
  EXPECT_EQ(param_of(R"({"prompt":[5],"suffix":"s"})"), "suffix");
  EXPECT_EQ(param_of(R"({"prompt":[99999999]})"), "prompt");
  EXPECT_EQ(param_of(R"({"prompt":[5],"allowed_token_ids":[9999999]})"), "allowed_token_ids");
  EXPECT_EQ(param_of(R"({"prompt":[5],"allowed_token_ids":[1],"stop_token_ids":[1],)"
                     R"("min_tokens":2})"),
            "allowed_token_ids");
  EXPECT_EQ(param_of(R"({"prompt":[5],"min_tokens":600,"max_tokens":700})"), "prompt");
  EXPECT_EQ(param_of(R"({"messages":[{"role":"user","content":"x"}],"min_tokens":600})",
                     "/v1/chat/completions"),
            "min_tokens");
  EXPECT_EQ(param_of(R"({"messages":[{"role":"user","content":"x"}],)"
                     R"("response_format":{"type":"json_object"}})",
                     "/v1/chat/completions"),
            "response_format");
  EXPECT_EQ(param_of("{\"prompt\":\"\xff\xfe\"}"), "");
  EXPECT_EQ(
      param_of(("{\"prompt\":" + std::string(5000, '[') + std::string(5000, ']') + "}").c_str()),
      "");
  EXPECT_EQ(param_of("nonsense"), "");
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"model":"other","prompt":[5]})").status, 404);
  EXPECT_EQ(get(server.port(), "/v1/completions").status, 405);
  EXPECT_EQ(get(server.port(), "/nowhere").status, 404);
}

TEST(EndToEnd, a_prompt_that_is_too_long_is_400_with_both_numbers) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  std::string ids = "5";
  for (int i = 1; i < 600; ++i) ids += ",5";
  const TestReply reply = ask(server.port(), "/v1/completions", "{\"prompt\":[" + ids + "]}");
  EXPECT_EQ(reply.status, 400);
  EXPECT_TRUE(contains(reply.body, "512 tokens") && contains(reply.body, "600 tokens"))
      << reply.body;
}

TEST(EndToEnd, a_huge_body_and_a_long_prompt_do_no_harm) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  const std::string text(2'000'000, 'a');
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"prompt":")" + text + "\"}").status, 400);
  EXPECT_EQ(ask(server.port(), "/v1/completions", std::string(40 << 20, ' ')).status, 413);
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":2})").status, 200);
}

TEST(EndToEnd, garbage_on_the_router_is_counted_and_nothing_else_notices) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  FakeEngine garbage(server, 1, {.sends_garbage = true});
  EXPECT_TRUE(wait_until([&] {
    const std::string page = get(server.port(), "/metrics").body;
    return !contains(page, "engine_messages_undecodable_total{model_name=\"demo\"} 0") &&
           contains(page, "engine_messages_undecodable_total");
  }));
  EXPECT_EQ(ask(server.port(), "/v1/completions", R"({"prompt":[5],"max_tokens":2})").status, 200);
}

TEST(EndToEnd, the_api_key_protects_what_lies_below_v1_and_nothing_else) {
  ServerForTest server({.api_keys = {"secret", "other"}});
  FakeEngine engine(server, 0);
  const std::string body = R"({"prompt":[5],"max_tokens":2})";
  EXPECT_EQ(ask(server.port(), "/v1/completions", body).status, 401);
  EXPECT_EQ(ask(server.port(), "/v1/completions", body, "Authorization: Bearer secre\r\n").status,
            401);
  EXPECT_EQ(ask(server.port(), "/v1/completions", body, "Authorization: Bearer other\r\n").status,
            200);
  EXPECT_EQ(get(server.port(), "/v1/models").status, 401);
  EXPECT_EQ(get(server.port(), "/v1/nothing").status, 401);
  EXPECT_EQ(get(server.port(), "/nothing").status, 404);
  for (const char* const path : {"/metrics", "/load", "/version", "/health", "/ready", "/ping"}) {
    EXPECT_EQ(get(server.port(), path).status, 200) << path;
  }
  EXPECT_EQ(ask(server.port(), "/tokenize", R"({"prompt":"a"})").status, 200);
}

TEST(EndToEnd, a_template_of_the_request_is_used_only_where_it_is_trusted) {
  const std::string body = R"({"messages":[{"role":"user","content":"abc"}],)"
                           R"("chat_template":"{{ messages[0].content }}!"})";
  ServerForTest careful;
  const TestReply refused = ask(careful.port(), "/tokenize", body);
  EXPECT_EQ(refused.status, 400);
  EXPECT_TRUE(contains(refused.body, "--trust-request-chat-template")) << refused.body;
  ServerForTest trusting({.trusts_chat_template = true});
  EXPECT_EQ(
      ask(trusting.port(), "/tokenize", body).body,
      ask(trusting.port(), "/tokenize", R"({"prompt":"abc!","add_special_tokens":false})").body);
  const std::string broken = R"({"messages":[{"role":"user","content":"abc"}],)"
                             R"("chat_template":"{% if %}"})";
  const TestReply wrong = ask(trusting.port(), "/tokenize", broken);
  EXPECT_EQ(wrong.status, 400);
  EXPECT_TRUE(contains(wrong.body, R"("param":"chat_template")")) << wrong.body;
}

TEST(EndToEnd, metrics_tell_of_no_rank_that_another_node_serves) {
  ServerForTest server({.served_first = 1});
  FakeEngine engine(server, 1);
  const std::string page = get(server.port(), "/metrics").body;
  EXPECT_TRUE(contains(page, R"(engine="1")"));
  EXPECT_FALSE(contains(page, R"(engine="0")")) << page;
}

TEST(EndToEnd, the_cluster_is_shown_to_who_has_a_key_without_dev_mode) {
  ServerForTest server({.api_keys = {"secret"}});
  FakeEngine engine(server, 1);
  EXPECT_EQ(get(server.port(), "/cluster").status, 401);
  const char* const key = "Authorization: Bearer secret\r\n";
  const TestReply page = get(server.port(), "/cluster", key);
  EXPECT_EQ(page.status, 200) << page.body;
  EXPECT_TRUE(contains(page.body, R"("rank":0,"state":"absent")")) << page.body;
  EXPECT_TRUE(contains(page.body, R"("rank":1,"state":"ready")")) << page.body;
  const TestReply refused = ask(server.port(), "/cluster", "", key);
  EXPECT_EQ(refused.status, 405);
  EXPECT_TRUE(contains(refused.head, "Allow: GET, HEAD")) << refused.head;
}

TEST(EndToEnd, the_small_routes_answer) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  EXPECT_TRUE(contains(get(server.port(), "/v1/models").body, R"("id":"demo","object":"model")"));
  EXPECT_TRUE(contains(get(server.port(), "/v1/models").body, R"("max_model_len":512)"));
  EXPECT_TRUE(contains(get(server.port(), "/version").body, R"("version":)"));
  EXPECT_EQ(get(server.port(), "/load").body, R"({"server_load":0})");
  const TestReply tokens = ask(server.port(), "/tokenize", R"({"prompt":"ab"})");
  EXPECT_TRUE(contains(tokens.body, R"("count":)")) << tokens.body;
  const TestReply text = ask(server.port(), "/detokenize", R"({"tokens":[2,3]})");
  EXPECT_EQ(text.body, R"({"prompt":"!\""})");
  EXPECT_EQ(ask(server.port(), "/detokenize", R"({"tokens":[99999]})").status, 400);
  EXPECT_TRUE(contains(get(server.port(), "/metrics").body, "vllm:num_requests_running"));
}

}  // namespace
}  // namespace trireme::api
