// HttpServer over loopback: keep-alive, pipelining, streams, deadlines, bounds and disconnects.
// Method: raw sockets write exact bytes; the handler is a small echo. No sleeps: reads end with
// the peer's bytes or close, or at the socket's own deadline, which fails the test.
#include "api_server/http/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "api_server/http/asio.h"
#include "api_server/http/test_client.h"

namespace trireme::api {
namespace {

using namespace std::chrono_literals;

class Harness {
 public:
  explicit Harness(HttpLimits limits = {}) {
    limits.sweep_interval = 10ms;
    auto opened = HttpServer::open(
        context_, {.host = "127.0.0.1", .limits = limits},
        [this](std::shared_ptr<Exchange> exchange) { handle(std::move(exchange)); });
    EXPECT_TRUE(opened.ok()) << opened.status();
    server_ = *std::move(opened);
    port_ = server_->port();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~Harness() {
    asio::post(context_, [this] {
      held_.clear();
      server_->close();
    });
    thread_.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }
  void drain() {
    run([this] { server_->drain(); });
  }
  HttpCounters counters() {
    HttpCounters counters;
    run([&] { counters = server_->counters(); });
    return counters;
  }
  [[nodiscard]] bool wait_for_disconnects(int count) {
    return wait_until([&] { return disconnects_.load() >= count; });
  }
  [[nodiscard]] bool wait_for_held(std::size_t count) {
    return wait_until([&] {
      std::size_t held = 0;
      run([&] { held = held_.size(); });
      return held >= count;
    });
  }
  void finish_held() {
    run([this] {
      for (auto& exchange : std::exchange(held_, {})) exchange->reply({.body = "held"});
    });
  }

 private:
  template <typename Work>
  void run(Work work) {
    std::atomic<bool> done = false;
    asio::post(context_, [&] {
      work();
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }

  void handle(std::shared_ptr<Exchange> exchange) {
    const std::string& path = exchange->request().path;
    if (path == "/hold") {
      exchange->on_disconnect([this] { ++disconnects_; });
      held_.push_back(std::move(exchange));
    } else if (path == "/events") {
      exchange->begin_events();
      exchange->send_events("data: one\n\n");
      exchange->send_events("data: two\n\n");
      exchange->finish();
    } else if (path == "/flood") {
      exchange->on_disconnect([this] { ++disconnects_; });
      exchange->begin_events();
      const std::string event = "data: " + std::string(1 << 20, 'x') + "\n\n";
      for (int i = 0; i < 64 && exchange->is_open(); ++i) exchange->send_events(event);
      held_.push_back(std::move(exchange));
    } else {
      exchange->reply({.body = path + ":" + exchange->request().body});
    }
  }

  asio::io_context context_{1};
  std::unique_ptr<HttpServer> server_;
  uint16_t port_ = 0;
  std::vector<std::shared_ptr<Exchange>> held_;
  std::atomic<int> disconnects_ = 0;
  std::thread thread_;
};

std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(headers) +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

TEST(HttpServer, keep_alive_answers_one_request_after_the_other) {
  Harness harness;
  TestClient client(harness.port());
  for (int i = 0; i < 3; ++i) {
    client.send(post("/echo", "abc"));
    const TestReply reply = client.read_reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "/echo:abc");
  }
  EXPECT_EQ(harness.counters().connections_total, 1u);
}

TEST(HttpServer, pipelined_requests_are_answered_in_order) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/hold", "") + post("/a", "1") + post("/b", "2"));
  ASSERT_TRUE(harness.wait_for_held(1));
  harness.finish_held();
  EXPECT_EQ(client.read_reply().body, "held");
  EXPECT_EQ(client.read_reply().body, "/a:1");
  EXPECT_EQ(client.read_reply().body, "/b:2");
}

TEST(HttpServer, who_sends_too_much_ahead_is_still_seen_leaving) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/hold", "") + post("/a", std::string(4 << 20, 'x')));
  ASSERT_TRUE(harness.wait_for_held(1));
  client.close();
  EXPECT_TRUE(harness.wait_for_disconnects(1));
}

TEST(HttpServer, who_sends_too_much_ahead_gets_the_open_answer_and_the_end) {
  Harness harness({.pipelined_bytes_max = 1000});
  TestClient client(harness.port());
  client.send(post("/hold", "") + post("/a", std::string(2000, 'x')));
  ASSERT_TRUE(harness.wait_for_held(1));
  harness.finish_held();
  const TestReply reply = client.read_reply();
  EXPECT_EQ(reply.body, "held");
  EXPECT_EQ(reply.header("Connection"), "close");
}

TEST(HttpServer, ten_thousand_pipelined_requests_do_not_nest) {
  Harness harness;
  TestClient client(harness.port());
  std::string all;
  for (int i = 0; i < 10'000; ++i) all += "GET /p HTTP/1.1\r\nHost: a\r\n\r\n";
  std::thread writer([&] { client.send(all); });
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(client.read_reply().status, 200);
  writer.join();
}

TEST(HttpServer, every_split_of_a_request_gives_the_same_answer) {
  Harness harness;
  const std::string bytes = post("/echo", "{\"prompt\":\"x\"}");
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    TestClient client(harness.port());
    client.send(bytes.substr(0, i));
    client.send(bytes.substr(i));
    ASSERT_EQ(client.read_reply().body, "/echo:{\"prompt\":\"x\"}") << "split at " << i;
  }
}

TEST(HttpServer, events_are_chunked_and_the_connection_goes_on) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/events", ""));
  const TestReply reply = client.read_reply();
  EXPECT_EQ(reply.body, "data: one\n\ndata: two\n\n");
  EXPECT_NE(reply.head.find("text/event-stream"), std::string::npos);
  client.send(post("/echo", "x"));
  EXPECT_EQ(client.read_reply().body, "/echo:x");
}

TEST(HttpServer, what_is_written_in_one_turn_arrives_by_one_read) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/events", ""));
  EXPECT_TRUE(client.read_once().ends_with("data: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"));
}

TEST(HttpServer, events_to_http_1_0_end_with_the_connection) {
  Harness harness;
  TestClient client(harness.port());
  client.send("POST /events HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_EQ(all.find("chunked"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\ndata: one\n\ndata: two\n\n"));
}

TEST(HttpServer, a_disconnect_is_noticed_while_the_answer_is_awaited) {
  Harness harness;
  {
    TestClient client(harness.port());
    client.send(post("/hold", ""));
    ASSERT_TRUE(harness.wait_for_held(1));
  }
  EXPECT_TRUE(harness.wait_for_disconnects(1));
}

TEST(HttpServer, the_request_id_is_echoed_or_drawn) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/echo", "", "X-Request-Id: my-id\r\n"));
  EXPECT_EQ(client.read_reply().header("X-Request-Id"), "my-id");
  client.send(post("/echo", ""));
  EXPECT_EQ(client.read_reply().header("X-Request-Id").size(), 32u);
}

TEST(HttpServer, head_has_the_length_and_no_body) {
  Harness harness;
  TestClient client(harness.port());
  client.send(
      "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_NE(all.find("Content-Length: 3"), std::string::npos);
  EXPECT_EQ(all.find("/x:"), std::string::npos);
  EXPECT_TRUE(all.ends_with("/y:"));
}

TEST(HttpServer, expect_continue_gets_its_go_ahead) {
  Harness harness;
  TestClient client(harness.port());
  client.send("POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_EQ(client.read_reply().body, "/e:ok");
}

TEST(HttpServer, a_slow_header_is_408_and_a_slow_body_too) {
  HttpLimits limits;
  limits.header_timeout = 50ms;
  limits.body_timeout = 50ms;
  Harness harness(limits);
  TestClient header(harness.port());
  header.send("GET / HTTP/1.1\r\nHost: a\r\nA: b");
  EXPECT_TRUE(header.read_to_end().starts_with("HTTP/1.1 408 "));
  TestClient body(harness.port());
  body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_TRUE(body.read_to_end().starts_with("HTTP/1.1 408 "));
  EXPECT_EQ(harness.counters().requests_timed_out, 2u);
}

TEST(HttpServer, an_idle_connection_is_closed_without_a_word) {
  HttpLimits limits;
  limits.idle_timeout = 50ms;
  Harness harness(limits);
  TestClient client(harness.port());
  client.send(post("/echo", ""));
  EXPECT_EQ(client.read_reply().status, 200);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST(HttpServer, a_body_over_the_limit_is_413_and_the_client_can_read_it) {
  HttpLimits limits;
  limits.body_bytes_max = 1000;
  Harness harness(limits);
  TestClient client(harness.port());
  client.send(post("/echo", std::string(500'000, 'x')));
  EXPECT_TRUE(client.read_to_end().starts_with("HTTP/1.1 413 "));
}

TEST(HttpServer, connections_over_the_limit_are_503) {
  HttpLimits limits;
  limits.connections_max = 2;
  Harness harness(limits);
  TestClient first(harness.port());
  TestClient second(harness.port());
  first.send(post("/hold", ""));
  second.send(post("/hold", ""));
  ASSERT_TRUE(harness.wait_for_held(2));
  TestClient third(harness.port());
  const std::string all = third.read_to_end();
  EXPECT_TRUE(all.starts_with("HTTP/1.1 503 "));
  EXPECT_NE(all.find("Retry-After: 1"), std::string::npos);
}

TEST(HttpServer, a_client_that_does_not_read_is_cut) {
  HttpLimits limits;
  limits.unsent_bytes_max = 1 << 20;
  Harness harness(limits);
  TestClient client(harness.port());
  client.send(post("/flood", ""));
  EXPECT_TRUE(harness.wait_for_disconnects(1));
}

TEST(HttpServer, a_drain_closes_each_connection_with_its_answer) {
  Harness harness;
  TestClient client(harness.port());
  client.send(post("/hold", ""));
  ASSERT_TRUE(harness.wait_for_held(1));
  harness.drain();
  harness.finish_held();
  const std::string all = client.read_to_end();
  EXPECT_NE(all.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(all.ends_with("held"));
}

TEST(HttpServer, a_certificate_that_cannot_be_read_is_said_by_file_and_reason) {
  asio::io_context context;
  const auto opened =
      HttpServer::open(context, {.host = "127.0.0.1", .ssl_certfile = "/nowhere.pem"}, {});
  EXPECT_EQ(std::string(opened.status().message()),
            "--ssl-certfile /nowhere.pem: No such file or directory");
}

}  // namespace
}  // namespace trireme::api
