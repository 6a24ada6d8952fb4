// The routes that hold the engines, from the client's socket to fake engines and back: who may ask,
// what is refused, what the answers of several engines come to.
#include <gtest/gtest.h>

#include <map>

#include "api_server/fake_engine_for_test.h"
#include "api_server/http/test_client.h"
#include "api_server/server_for_test.h"

namespace trireme::api {
namespace {

constexpr ServerForTestOptions kDev{.dev_mode = true};

bool is_paused(ServerForTest& server) {
  const TestReply reply = get(server.port(), "/is_paused");
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(contains(reply.body, "is_paused")) << reply.body;
  return contains(reply.body, "true");
}

TEST(DevRoutes, without_dev_mode_they_are_not_there_and_say_how_to_have_them) {
  ServerForTest server;
  FakeEngine engine(server, 0);
  for (const char* const path : {"/pause", "/resume", "/reset_prefix_cache"}) {
    const TestReply reply = ask(server.port(), path, "");
    EXPECT_EQ(reply.status, 404);
    EXPECT_TRUE(contains(reply.body, "VLLM_SERVER_DEV_MODE=1")) << reply.body;
  }
  EXPECT_EQ(get(server.port(), "/is_paused").status, 404);
  EXPECT_FALSE(engine.is_paused());
}

TEST(DevRoutes, a_key_is_needed_where_one_is_set) {
  ServerForTest server({.api_keys = {"secret"}, .dev_mode = true});
  FakeEngine engine(server, 0);
  EXPECT_EQ(ask(server.port(), "/pause", "").status, 401);
  EXPECT_EQ(get(server.port(), "/is_paused").status, 401);
  EXPECT_FALSE(engine.is_paused());
  EXPECT_EQ(ask(server.port(), "/pause", "", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_TRUE(engine.is_paused());
}

TEST(DevRoutes, a_pause_and_a_resume_reach_every_engine) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  FakeEngine second(server, 1);
  EXPECT_FALSE(is_paused(server));
  const TestReply paused = ask(server.port(), "/pause", "");
  EXPECT_EQ(paused.status, 200) << paused.body;
  EXPECT_EQ(paused.body, R"({"status":"paused"})");
  EXPECT_TRUE(first.is_paused() && second.is_paused());
  EXPECT_TRUE(is_paused(server));
  const TestReply resumed = ask(server.port(), "/resume", "");
  EXPECT_EQ(resumed.body, R"({"status":"resumed"})");
  EXPECT_FALSE(first.is_paused() || second.is_paused());
  EXPECT_FALSE(is_paused(server));
}

TEST(DevRoutes, an_engine_that_comes_later_is_paused_too) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  EXPECT_EQ(ask(server.port(), "/pause?mode=keep", "").status, 200);
  FakeEngine second(server, 1);
  EXPECT_TRUE(is_paused(server));
  EXPECT_TRUE(second.is_paused());
}

TEST(DevRoutes, garbage_is_400_and_names_the_parameter_the_value_and_the_choices) {
  ServerForTest server(kDev);
  FakeEngine engine(server, 0);
  const std::string long_word(200, 'x');
  for (const std::string& query :
       {std::string("mode=Abort"), std::string("mode="), std::string("mode"),
        std::string("mode=keep&mode=abort%20"), "mode=" + long_word}) {
    const TestReply reply = ask(server.port(), "/pause?" + query, "");
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_TRUE(contains(reply.body, "must be one of abort, wait, keep, got '")) << reply.body;
    EXPECT_TRUE(contains(reply.body, R"("param":"mode")")) << reply.body;
    EXPECT_LT(reply.body.size(), 250u);
  }
  const TestReply flag = ask(server.port(), "/pause?clear_cache=maybe", "");
  EXPECT_EQ(flag.status, 400);
  EXPECT_TRUE(contains(flag.body, "clear_cache: must be true or false, got 'maybe'")) << flag.body;
  const TestReply running =
      ask(server.port(), "/reset_prefix_cache?reset_running_requests=true", "");
  EXPECT_EQ(running.status, 400);
  EXPECT_TRUE(contains(running.body, R"("param":"reset_running_requests")")) << running.body;
  EXPECT_EQ(get(server.port(), "/pause").status, 405);
  EXPECT_FALSE(engine.is_paused());
}

bool is_sleeping(ServerForTest& server) {
  const TestReply reply = get(server.port(), "/is_sleeping");
  EXPECT_EQ(reply.status, 200) << reply.body;
  return reply.body == R"({"is_sleeping":true})";
}

TEST(DevRoutes, a_sleep_and_a_wake_up_reach_every_engine) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  FakeEngine second(server, 1);
  EXPECT_FALSE(is_sleeping(server));
  for (const char* const query : {"", "?level=1&mode=keep", "?mode=wait"}) {
    const TestReply slept = ask(server.port(), absl::StrFormat("/sleep%s", query), "");
    EXPECT_EQ(slept.status, 200) << slept.body;
    EXPECT_EQ(slept.body, "");
    EXPECT_TRUE(first.is_asleep() && second.is_asleep() && is_sleeping(server));
    EXPECT_EQ(ask(server.port(), "/wake_up?tags=weights", "").status, 200);
    EXPECT_TRUE(first.is_asleep() && second.is_asleep()) << "the weights never left";
    EXPECT_EQ(ask(server.port(), "/wake_up?tags=weights&tags=kv_cache", "").status, 200);
    EXPECT_FALSE(first.is_asleep() || second.is_asleep() || is_sleeping(server));
  }
}

TEST(DevRoutes, level_0_is_a_pause) {
  ServerForTest server(kDev);
  FakeEngine engine(server, 0);
  EXPECT_EQ(ask(server.port(), "/sleep?level=0", "").status, 200);
  EXPECT_TRUE(engine.is_paused() && is_sleeping(server));
  EXPECT_FALSE(engine.is_asleep());
  EXPECT_EQ(ask(server.port(), "/wake_up?tags=scheduling", "").status, 200);
  EXPECT_FALSE(engine.is_paused());
}

TEST(DevRoutes, without_room_for_the_memory_of_one_all_sleep_on) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  FakeEngine second(server, 1, {.lacks_memory = true});
  EXPECT_EQ(ask(server.port(), "/wake_up", "").status, 200) << "it is awake";
  EXPECT_EQ(ask(server.port(), "/sleep", "").status, 200);
  for (const char* const path : {"/wake_up", "/resume"}) {
    const TestReply refused = ask(server.port(), path, "");
    EXPECT_EQ(refused.status, 503);
    EXPECT_TRUE(contains(refused.body, "rank 1: no memory")) << refused.body;
    EXPECT_TRUE(contains(refused.head, "Retry-After: ")) << refused.head;
    EXPECT_TRUE(first.is_asleep() && second.is_asleep());
  }
}

TEST(DevRoutes, a_sleep_that_cannot_be_is_400) {
  ServerForTest server(kDev);
  FakeEngine engine(server, 0);
  for (const auto& [path, words] : std::map<std::string, std::string>{
           {"/sleep?level=2", "level: 2 is not supported: weights are not loaded again"},
           {"/sleep?level=3", "level: must be 0 or 1, got '3'"},
           {"/sleep?mode=soon", "mode: must be one of abort, wait, keep, got 'soon'"},
           {"/wake_up?tags=kv", "tags: must be weights, kv_cache or scheduling, got 'kv'"}}) {
    const TestReply reply = ask(server.port(), path, "");
    EXPECT_EQ(reply.status, 400) << path;
    EXPECT_TRUE(contains(reply.body, words)) << reply.body;
  }
  EXPECT_FALSE(engine.is_paused());
}

TEST(DevRoutes, without_an_engine_it_is_503_and_says_when_to_come_back) {
  ServerForTest server(kDev);
  for (const char* const path :
       {"/pause", "/resume", "/reset_prefix_cache", "/sleep", "/wake_up"}) {
    const TestReply reply = ask(server.port(), path, "");
    EXPECT_EQ(reply.status, 503) << reply.body;
    EXPECT_TRUE(contains(reply.head, "Retry-After: ")) << reply.head;
  }
}

TEST(DevRoutes, the_prefix_cache_is_reset_when_all_could) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  FakeEngine second(server, 1, {.tokens_max = 1});
  EXPECT_EQ(ask(server.port(), "/reset_prefix_cache", "").body, R"({"success":true})");
  TestClient holder(server.port());
  holder.send(post("/v1/completions", R"({"prompt":[5],"max_tokens":9,"stream":true})",
                   "X-data-parallel-rank: 1\r\n"));
  ASSERT_TRUE(wait_until([&] { return second.received() == 1; }));
  const TestReply refused =
      ask(server.port(), "/reset_prefix_cache?reset_running_requests=false&reset_external=1", "");
  EXPECT_EQ(refused.status, 200);
  EXPECT_TRUE(contains(refused.body, R"({"success":false,"reason":"rank 1: )")) << refused.body;
}

TEST(DevRoutes, an_engine_that_dies_while_it_is_asked_is_left_out) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  std::optional<FakeEngine> silent(std::in_place, server, 1,
                                   FakeEngineOptions{.ignores_calls = true});
  TestClient client(server.port());
  const int told = silent->calls();
  client.send(post("/pause", ""));
  ASSERT_TRUE(wait_until([&] { return silent->calls() > told; }));
  silent.reset();
  EXPECT_EQ(client.read_reply().status, 200);
  EXPECT_TRUE(first.is_paused());
}

TEST(DevRoutes, a_client_that_leaves_meanwhile_changes_nothing) {
  ServerForTest server(kDev);
  FakeEngine first(server, 0);
  std::optional<FakeEngine> silent(std::in_place, server, 1,
                                   FakeEngineOptions{.ignores_calls = true});
  for (int i = 0; i < 3; ++i) {
    TestClient client(server.port());
    const int told = silent->calls();
    client.send(post("/pause?mode=wait", ""));
    ASSERT_TRUE(wait_until([&] { return silent->calls() > told; }));
  }
  silent.reset();
  EXPECT_TRUE(is_paused(server));
  EXPECT_EQ(ask(server.port(), "/resume", "").status, 200);
}

TEST(DevRoutes, what_is_open_when_the_server_is_stopped_is_answered) {
  ServerForTest server(kDev);
  FakeEngine silent(server, 0, {.ignores_calls = true});
  TestClient client(server.port());
  client.send(post("/pause?mode=wait", ""));
  ASSERT_TRUE(wait_until([&] { return silent.is_paused(); }));
  server.end_requests();
  EXPECT_EQ(client.read_reply().status, 503);
}

}  // namespace
}  // namespace trireme::api
