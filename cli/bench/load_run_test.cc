// Goal: a prequeued run holds the last byte of every request back until the server has the rest of
// all, and its clock begins then. Method: a server on loopback that reads one request after the
// other; each is larger than what the kernel takes from a client whose server does not read.
#include "cli/bench/load_run.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "cli/bench/progress.h"
#include "common/unique_fd.h"

namespace trireme::bench {
namespace {

constexpr std::size_t kRequestBytes = 16u << 20;
constexpr std::size_t kRequests = 3;
constexpr int kNothingComesMilliseconds = 50;
constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 66\r\n\r\n"
    R"({"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":4}})";

class SlowServer {
 public:
  SlowServer() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_.get(), raw, size), 0);
    EXPECT_EQ(::listen(listener_.get(), kRequests), 0);
    ::getsockname(listener_.get(), raw, &size);
    url.host = "127.0.0.1";
    url.port = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~SlowServer() { thread_.join(); }

  ServerUrl url;
  int early_last_bytes = 0;
  Instant all_there{};  // A moment before.

 private:
  void serve() {
    std::vector<UniqueFd> clients;
    std::vector<char> buffer(kRequestBytes);
    for (std::size_t i = 0; i < kRequests; ++i) {
      const UniqueFd& client = clients.emplace_back(::accept(listener_.get(), nullptr, nullptr));
      if (i + 1 == kRequests) all_there = now();
      EXPECT_EQ(::recv(client.get(), buffer.data(), kRequestBytes - 1, MSG_WAITALL),
                static_cast<ssize_t>(kRequestBytes - 1));
      pollfd entry{client.get(), POLLIN, 0};
      if (i + 1 < kRequests) early_last_bytes += ::poll(&entry, 1, kNothingComesMilliseconds);
    }
    for (const UniqueFd& client : clients) {
      EXPECT_EQ(::recv(client.get(), buffer.data(), 1, MSG_WAITALL), 1);
      EXPECT_EQ(::send(client.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(kAnswer.size()));
    }
  }

  UniqueFd listener_;
  std::thread thread_;
};

TEST(LoadRun, prequeued_requests_are_let_go_together_and_the_clock_begins_then) {
  auto stop = StopSignal::install();
  ASSERT_TRUE(stop.ok());
  SlowServer server;
  Progress progress("requests", kRequests, false);
  const LoadJob job{.arrivals = std::vector<Duration>(kRequests),
                    .request_of = [](std::size_t) { return std::string(kRequestBytes, 'x'); },
                    .is_prequeued = true};
  const auto outcome = run_load(server.url, job, progress, *stop);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(server.early_last_bytes, 0);
  EXPECT_GT(outcome->begin, server.all_there);
  for (const Sample& sample : outcome->samples) {
    EXPECT_EQ(sample.state, SampleState::kCompleted) << sample.error;
    EXPECT_EQ(sample.output_tokens, 4u);
    EXPECT_EQ(sample.start, outcome->begin);
    EXPECT_LE(sample.latency, outcome->duration);
  }
}

}  // namespace
}  // namespace trireme::bench
