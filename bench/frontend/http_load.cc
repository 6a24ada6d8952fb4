// http_load: keeps an HTTP server busy over loopback and says what that cost the server.
//
//   http_load PORT PID CONNECTIONS REQUESTS BODY
//
// Each connection sends BODY to /v1/completions REQUESTS times, the next when the last is answered.
// Prints one JSON line: requests, events (server-sent, without [DONE]), seconds, the CPU that
// process PID used meanwhile in microseconds, its resident set in KiB. Fails on any status but 200.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/unique_fd.h"

namespace {

using trireme::UniqueFd;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "http_load: %s\n", why.c_str());
  std::exit(EXIT_FAILURE);
}

uint64_t number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) {
    die("'" + std::string(text) + "' is not a number");
  }
  return value;
}

struct Cpu {
  double user = 0;
  double system = 0;
};

// Microseconds so far, all threads.
Cpu cpu_of(uint64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.empty()) die("there is no process " + std::to_string(pid));
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  Cpu cpu;
  fields >> cpu.user >> cpu.system;
  const double tick = 1e6 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return {.user = cpu.user * tick, .system = cpu.system * tick};
}

uint64_t resident_kib(uint64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
}

UniqueFd connect_to(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    die("nobody listens on port " + std::to_string(port));
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

// One connection: the answer to its open request as far as it has come.
class Client {
 public:
  Client(uint16_t port, const std::string& request, uint64_t requests)
      : fd_(connect_to(port)), request_(request), left_(requests) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool is_done() const { return left_ == 0; }
  [[nodiscard]] uint64_t events() const { return events_; }

  void send() {
    const auto size = static_cast<ssize_t>(request_.size());
    if (::send(fd_.get(), request_.data(), request_.size(), MSG_NOSIGNAL) != size) die("send");
  }
  void read() {
    std::array<char, 64 * 1024> bytes;
    const ssize_t size = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (size <= 0) die("the server closed a connection");
    answer_.append(bytes.data(), static_cast<std::size_t>(size));
    if (!is_complete()) return;
    answer_.clear();
    if (--left_ > 0) send();
  }

 private:
  bool is_complete() {
    const std::size_t end = answer_.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    if (!answer_.starts_with("HTTP/1.1 200 ")) die(answer_.substr(0, 1000));
    const std::size_t length = answer_.find("Content-Length: ");
    if (length < end) {
      const uint64_t body = std::strtoull(answer_.c_str() + length + 16, nullptr, 10);
      return answer_.size() == end + 4 + body;
    }
    if (!answer_.ends_with("\r\n0\r\n\r\n")) return false;
    for (std::size_t at = end; (at = answer_.find("data: {", at)) != std::string::npos; ++at) {
      ++events_;
    }
    return true;
  }

  UniqueFd fd_;
  const std::string& request_;
  uint64_t left_;
  uint64_t events_ = 0;
  std::string answer_;
};

void run(std::vector<Client>& clients) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (Client& client : clients) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &client;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, client.fd(), &event) != 0) die("epoll_ctl");
    client.send();
  }
  std::size_t busy = clients.size();
  std::array<epoll_event, 256> events;
  while (busy > 0) {
    const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      Client& client = *static_cast<Client*>(events[static_cast<std::size_t>(i)].data.ptr);
      client.read();
      if (client.is_done()) --busy;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) die("usage: http_load PORT PID CONNECTIONS REQUESTS BODY");
  const auto port = static_cast<uint16_t>(number(argv[1]));
  const uint64_t pid = number(argv[2]);
  const uint64_t connections = number(argv[3]);
  const uint64_t requests = number(argv[4]);
  const std::string body = argv[5];
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  std::vector<Client> clients;
  clients.reserve(connections);
  for (uint64_t i = 0; i < connections; ++i) clients.emplace_back(port, request, requests);

  const Cpu before = cpu_of(pid);
  const trireme::Instant start = trireme::now();
  run(clients);
  const double seconds = std::chrono::duration<double>(trireme::now() - start).count();
  const Cpu after = cpu_of(pid);
  uint64_t streamed = 0;
  for (const Client& client : clients) streamed += client.events();
  std::printf(
      R"({"requests":%lu,"events":%lu,"seconds":%.3f,"user_us":%.0f,"system_us":%.0f,"rss_kib":%lu})"
      "\n",
      connections * requests, streamed, seconds, after.user - before.user,
      after.system - before.system, resident_kib(pid));
  return EXIT_SUCCESS;
}
