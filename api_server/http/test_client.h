// TestClient: a blocking HTTP client for tests that must write exact bytes. Every read has a
// deadline of ten seconds, after which it returns what it has.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "common/clock.h"
#include "common/unique_fd.h"

namespace trireme::api {

struct TestReply {
  int status = 0;
  std::string head;
  std::string body;

  [[nodiscard]] std::string header(std::string_view name) const {
    const std::string key = "\r\n" + std::string(name) + ": ";
    const std::size_t begin = head.find(key);
    if (begin == std::string::npos) return "";
    const std::size_t value = begin + key.size();
    return head.substr(value, head.find("\r\n", value) - value);
  }
};

template <typename Condition>
[[nodiscard]] bool wait_until(Condition condition) {
  const Deadline deadline = Deadline::after(std::chrono::seconds(10));
  while (!condition()) {
    if (deadline.has_passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

class TestClient {
 public:
  explicit TestClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval ten_seconds{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &ten_seconds, sizeof(ten_seconds));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &ten_seconds, sizeof(ten_seconds));
    is_connected_ =
        ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }

  [[nodiscard]] bool is_connected() const { return is_connected_; }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void close() { fd_.reset(); }

  // Up to and with `end`, or what came before the connection ended.
  std::string read_until(std::string_view end) {
    std::size_t found = std::string::npos;
    while ((found = buffer_.find(end)) == std::string::npos) {
      if (!read_some()) return std::exchange(buffer_, {});
    }
    return take(found + end.size());
  }
  std::string read_exactly(std::size_t size) {
    while (buffer_.size() < size) {
      if (!read_some()) return std::exchange(buffer_, {});
    }
    return take(size);
  }
  // What the next read gives, however little.
  std::string read_once() {
    (void)read_some();
    return std::exchange(buffer_, {});
  }
  std::string read_to_end() {
    while (read_some()) {
    }
    return std::exchange(buffer_, {});
  }
  TestReply read_head() {
    TestReply reply;
    reply.head = read_until("\r\n\r\n");
    if (reply.head.starts_with("HTTP/1.1 ")) reply.status = std::stoi(reply.head.substr(9, 3));
    return reply;
  }
  TestReply read_reply() {
    TestReply reply = read_head();
    if (const std::string length = reply.header("Content-Length"); !length.empty()) {
      reply.body = read_exactly(std::stoul(length));
    } else if (reply.header("Transfer-Encoding") == "chunked") {
      for (std::string chunk = read_chunk(); !chunk.empty(); chunk = read_chunk()) {
        reply.body += chunk;
      }
    }
    return reply;
  }
  // Empty: the last one.
  std::string read_chunk() {
    const std::string line = read_until("\r\n");
    if (line.size() < 3) return "";
    const std::size_t size = std::stoul(line, nullptr, 16);
    std::string chunk = read_exactly(size + 2);
    chunk.resize(std::min(size, chunk.size()));
    return chunk;
  }

 private:
  bool read_some() {
    char bytes[16384];
    const ssize_t size = ::recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (size <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(size));
    return true;
  }
  std::string take(std::size_t size) {
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return taken;
  }

  UniqueFd fd_;
  bool is_connected_ = false;
  std::string buffer_;
};

}  // namespace trireme::api
