// A TCP proxy on loopback that cuts its connections after every so many bytes, the first few times:
// what is in it then is lost.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <charconv>
#include <string>
#include <thread>
#include <vector>

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::worker {

class CuttingProxy {
 public:
  // `target`: "tcp://127.0.0.1:PORT".
  CuttingProxy(const std::string& target, uint64_t bytes_between_cuts, int cuts)
      : bytes_between_cuts_(bytes_between_cuts), cuts_left_(cuts) {
    uint16_t port = 0;
    const char* const end = target.data() + target.size();
    std::from_chars(target.data() + target.rfind(':') + 1, end, port);
    target_ = loopback(port);
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in own = loopback(0);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    socklen_t size = sizeof(own);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&own), &size);
    port_ = ntohs(own.sin_port);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  [[nodiscard]] std::string endpoint() const {
    return absl::StrFormat("tcp://127.0.0.1:%u", port_);
  }
  [[nodiscard]] int cuts_left() const { return cuts_left_.load(); }

 private:
  struct Pair {
    UniqueFd near;
    UniqueFd far;
  };

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<pollfd> waits = {{.fd = listener_.get(), .events = POLLIN, .revents = 0}};
      for (const Pair& pair : pairs_) {
        waits.push_back({.fd = pair.near.get(), .events = POLLIN, .revents = 0});
        waits.push_back({.fd = pair.far.get(), .events = POLLIN, .revents = 0});
      }
      if (::poll(waits.data(), waits.size(), 20) <= 0) continue;
      std::vector<Pair> alive;
      bool is_cut = false;
      for (std::size_t i = 0; i < pairs_.size(); ++i) {
        Pair& pair = pairs_[i];
        const bool lives =
            (waits[1 + 2 * i].revents == 0 || pass(pair.near.get(), pair.far.get(), is_cut)) &&
            (waits[2 + 2 * i].revents == 0 || pass(pair.far.get(), pair.near.get(), is_cut));
        if (lives) alive.push_back(std::move(pair));
      }
      pairs_ = std::move(alive);
      if (is_cut) pairs_.clear();
      if (waits[0].revents != 0) accept();
    }
  }

  void accept() {
    Pair pair;
    pair.near.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    pair.far.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* const target = reinterpret_cast<const sockaddr*>(&target_);
    if (::connect(pair.far.get(), target, sizeof(target_)) == 0) pairs_.push_back(std::move(pair));
  }

  bool pass(int from, int to, bool& is_cut) {
    const ssize_t got = ::recv(from, bytes_.data(), bytes_.size(), 0);
    if (got <= 0) return false;
    passed_ += static_cast<uint64_t>(got);
    if (passed_ >= bytes_between_cuts_ && cuts_left_.load() > 0) {
      passed_ = 0;
      --cuts_left_;
      is_cut = true;
      return false;
    }
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t more =
          ::send(to, bytes_.data() + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
      if (more <= 0) return false;
      sent += more;
    }
    return true;
  }

  const uint64_t bytes_between_cuts_;
  std::atomic<int> cuts_left_;
  uint64_t passed_ = 0;
  uint16_t port_ = 0;
  sockaddr_in target_{};
  UniqueFd listener_;
  std::vector<Pair> pairs_;
  std::array<char, 64 * 1024> bytes_;
  std::jthread thread_;
};

}  // namespace trireme::worker
