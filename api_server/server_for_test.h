// ServerForTest: the front end without processes or coordinator, on a thread of its own, with a
// small byte-level tokenizer whose letters are single tokens.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api_server/engine_client/engine_loop.h"
#include "api_server/http/asio.h"
#include "api_server/http/test_client.h"
#include "api_server/service.h"
#include "common/zmq/context.h"

namespace trireme::api {

inline constexpr char kTestTokenizer[] = "text/testdata/byte_level";
inline constexpr uint32_t kTestModelTokensMax = 512;

struct ServerForTestOptions {
  uint64_t queued_requests_max = 0;
  std::vector<std::string> api_keys;
  int32_t logprobs_max = 20;
  bool trusts_chat_template = false;
  uint32_t served_first = 0;
  bool dev_mode = false;
};

inline std::string post(std::string_view path, std::string_view body,
                        std::string_view headers = "") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(headers) +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

inline TestReply ask(uint16_t port, std::string_view path, std::string_view body,
                     std::string_view headers = "") {
  TestClient client(port);
  client.send(post(path, body, headers));
  return client.read_reply();
}

inline TestReply get(uint16_t port, std::string_view path, std::string_view headers = "") {
  TestClient client(port);
  client.send("GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(headers) +
              "\r\n");
  return client.read_reply();
}

inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

class ServerForTest {
 public:
  explicit ServerForTest(const ServerForTestOptions& options = {})
      : zmq_(*zmq::Context::create({})),
        tokenizer_(*text::Tokenizer::load(kTestTokenizer)),
        template_(*text::ChatTemplate::load_with_option(kTestTokenizer,
                                                        "text/testdata/templates/chatml.jinja")),
        engines_(*EngineLoop::open(io_, *zmq_, "127.0.0.1",
                                   {.engine_count = 2,
                                    .served_first = options.served_first,
                                    .queued_requests_max = options.queued_requests_max})),
        encoder_(std::in_place, io_, tokenizer_) {
    ServiceOptions service;
    service.model_names = {"demo"};
    service.model_root = "models/demo";
    service.api_keys = options.api_keys;
    service.version = "0";
    service.dev_mode = options.dev_mode;
    service.limits.vocabulary_size = static_cast<uint32_t>(tokenizer_.vocabulary_size());
    service.limits.logprobs_max = options.logprobs_max;
    service.limits.trusts_chat_template = options.trusts_chat_template;
    service.tokenizer_directory = kTestTokenizer;
    service_.emplace(service, engines_->client(), tokenizer_, &template_, *encoder_);
    http_ = *HttpServer::open(io_, {.host = "127.0.0.1"},
                              [this](auto exchange) { service_->handle(std::move(exchange)); });
    service_->set_http_counters(&http_->counters());
    port_ = http_->port();
    endpoint_ = engines_->endpoint();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ServerForTest() {
    run([this] { http_->close(); });
    io_.stop();
    thread_.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] zmq::Context& zmq() { return *zmq_; }
  [[nodiscard]] const text::Tokenizer& tokenizer() const { return tokenizer_; }
  [[nodiscard]] bool wait_for_incarnation(uint32_t rank, Incarnation incarnation) {
    return wait_until([&] {
      bool is_known = false;
      run([&] {
        const auto& engines = engines_->client().engines();
        is_known = rank < engines.size() && engines[rank].incarnation == incarnation;
      });
      return is_known;
    });
  }
  void drain() {
    run([this] {
      engines_->set_draining();
      http_->drain();
    });
  }
  [[nodiscard]] bool is_quiet() {
    bool is_quiet = false;
    run([&] { is_quiet = http_->is_quiet(); });
    return is_quiet;
  }
  void end_requests() {
    run([this] { engines_->fail_all(error(StatusCode::kUnavailable, "stopped")); });
  }

 private:
  template <typename Work>
  void run(Work work) {
    std::atomic<bool> done = false;
    asio::post(io_, [&] {
      work();
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }

  std::unique_ptr<zmq::Context> zmq_;
  text::Tokenizer tokenizer_;
  text::ChatTemplate template_;
  asio::io_context io_{1};
  std::unique_ptr<EngineLoop> engines_;
  std::optional<EncodePool> encoder_;
  std::optional<Service> service_;
  std::unique_ptr<HttpServer> http_;
  uint16_t port_ = 0;
  std::string endpoint_;
  std::thread thread_;
};

}  // namespace trireme::api
