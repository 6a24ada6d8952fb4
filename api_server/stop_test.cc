// How a front end stops: a drain lets the running finish, a forced end answers them at once.
#include <gtest/gtest.h>

#include "api_server/fake_engine_for_test.h"
#include "api_server/http/test_client.h"
#include "api_server/server_for_test.h"

namespace trireme::api {
namespace {

TEST(Stop, a_drain_refuses_the_new_and_finishes_the_running) {
  ServerForTest server;
  FakeEngine engine(server, 0, {.is_silent = true});
  TestClient running(server.port());
  running.send(post("/v1/completions", R"({"prompt":[5],"max_tokens":3})"));
  ASSERT_TRUE(wait_until([&] { return engine.received() == 1; }));
  server.drain();
  EXPECT_EQ(get(server.port(), "/ready").status, 503);
  const TestReply refused = ask(server.port(), "/v1/completions", R"({"prompt":[5]})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("Connection"), "close");
  EXPECT_EQ(refused.header("Retry-After"), "1");
  engine.speak();
  EXPECT_EQ(running.read_reply().status, 200);
}

TEST(Stop, a_forced_end_answers_a_whole_request_with_503_and_closes) {
  ServerForTest server;
  FakeEngine engine(server, 0, {.is_silent = true});
  TestClient running(server.port());
  running.send(post("/v1/completions", R"({"prompt":[5],"n":3,"max_tokens":3})"));
  ASSERT_TRUE(wait_until([&] { return engine.received() == 3; }));
  server.drain();
  server.end_requests();
  const TestReply reply = running.read_reply();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("Retry-After"), "1");
  EXPECT_EQ(reply.header("Connection"), "close");
  EXPECT_TRUE(contains(reply.body, R"({"error":{"message":"stopped")")) << reply.body;
  EXPECT_EQ(running.read_to_end(), "");
  EXPECT_TRUE(wait_until([&] { return engine.aborted() == 3; }));
  EXPECT_TRUE(server.is_quiet());
}

TEST(Stop, a_forced_end_answers_a_stream_with_an_error_event_and_its_end) {
  ServerForTest server;
  FakeEngine engine(server, 0, {.tokens_max = 2});
  TestClient client(server.port());
  client.send(post("/v1/completions", R"({"prompt":[5],"max_tokens":9,"stream":true})"));
  EXPECT_TRUE(contains(client.read_until("\n\n"), "HTTP/1.1 200"));
  server.drain();
  server.end_requests();
  const std::string rest = client.read_to_end();
  EXPECT_TRUE(contains(rest, R"(data: {"error":{"message":"stopped")")) << rest;
  EXPECT_TRUE(rest.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n")) << rest;
  EXPECT_TRUE(wait_until([&] { return engine.aborted() == 1; }));
}

}  // namespace
}  // namespace trireme::api
