// What the tests of this folder share: waiting receives, and peers that speak raw bytes.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <charconv>
#include <string>
#include <string_view>

#include "common/unique_fd.h"
#include "common/zmq/poller.h"

namespace trireme::zmq {

inline constexpr Duration kPatience = std::chrono::seconds(20);
// How long a test looks on to see that nothing happens.
inline constexpr Duration kQuiet = std::chrono::milliseconds(300);

inline bool receive_within(Socket& socket, Message& message, Duration patience = kPatience) {
  auto poller = Poller::create();
  EXPECT_TRUE(poller.ok() && poller->add(socket, 0).ok());
  const Deadline deadline = Deadline::after(patience);
  while (!socket.try_receive(message)) {
    if (poller->wait(deadline).empty()) return false;
  }
  return true;
}

// A TCP client that speaks whatever it is told to.
class RawPeer {
 public:
  explicit RawPeer(const std::string& endpoint) {
    const auto colon = endpoint.rfind(':');
    uint16_t port = 0;
    std::from_chars(endpoint.data() + colon + 1, endpoint.data() + endpoint.size(), port);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(
        ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // Greeting and READY of a DEALER without security (ZMTP 3.0). True once the other side is READY:
  // it takes what comes before that for a broken handshake.
  bool shake_hands() {
    std::string greeting = std::string("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16);
    greeting.resize(64, '\0');
    const std::string property = std::string("\x0bSocket-Type\0\0\0\6DEALER", 22);
    const std::string command = "\5READY" + property;
    send(greeting + '\4' + static_cast<char>(command.size()) + command);
    const Deadline deadline = Deadline::after(kPatience);
    while (heard_.find("READY") == heard_.npos) {
      if (!hear(deadline)) return false;
    }
    return true;
  }
  // True when the other side hangs up; what it says until then is collected.
  bool is_closed_within(Duration patience) {
    const Deadline deadline = Deadline::after(patience);
    while (hear(deadline)) {
    }
    return is_closed_;
  }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const std::string& heard() const { return heard_; }

 private:
  bool hear(Deadline deadline) {
    pollfd entry{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining());
    if (::poll(&entry, 1, static_cast<int>(left.count())) <= 0) return false;
    char bytes[256];
    const ssize_t got = ::recv(socket_.get(), bytes, sizeof(bytes), 0);
    is_closed_ = got <= 0;
    if (!is_closed_) heard_.append(bytes, static_cast<std::size_t>(got));
    return !is_closed_;
  }

  UniqueFd socket_;
  std::string heard_;
  bool is_closed_ = false;
};

}  // namespace trireme::zmq
