// Goal: the queue between nodes loses nothing, also over connections that break, and is bounded.
// Method: both ends over loopback; a proxy in between that cuts connections in mid-stream.
#include "common/zmq/remote_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "common/zmq/dealer.h"
#include "common/zmq/test_links.h"

namespace trireme::zmq {
namespace {

constexpr char kLoopback[] = "tcp://127.0.0.1:0";
constexpr RemoteQueueOptions kQuick{.window_records_max = 8,
                                    .ask_interval = std::chrono::milliseconds(20)};

Deadline patience() { return Deadline::after(kPatience); }

std::vector<std::byte> make_record(uint64_t number) {
  std::vector<std::byte> record(sizeof(number) + number % 5'000);
  std::memcpy(record.data(), &number, sizeof(number));
  return record;
}

bool is_record(std::span<const std::byte> bytes, uint64_t number) {
  const auto expected = make_record(number);
  return std::equal(bytes.begin(), bytes.end(), expected.begin(), expected.end());
}

void expect_records(MessageReceiver& receiver, uint64_t begin, uint64_t end) {
  for (uint64_t number = begin; number < end; ++number) {
    const auto record = receiver.receive(patience());
    ASSERT_TRUE(record.ok()) << record.status() << " at " << number;
    ASSERT_TRUE(is_record(*record, number)) << number;
    receiver.release();
  }
}

// Until everything is delivered: the sender's owner has nothing else to do.
void serve_until(RemoteSender& sender, const std::atomic<bool>& is_done) {
  while (!is_done.load()) {
    sender.service();
    std::this_thread::yield();
  }
}

// Forwards bytes to `endpoint`, one connection at a time, and cuts each after a while.
class CuttingProxy {
 public:
  CuttingProxy(const std::string& endpoint, std::size_t cut_after_bytes)
      : target_(endpoint),
        cut_after_bytes_(cut_after_bytes),
        listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    ::getsockname(listener_.get(), generic, &size);
    endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] int cuts() const { return cuts_.load(); }

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      pollfd entry{.fd = listener_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&entry, 1, 10) <= 0) continue;
      const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.is_open()) forward(client.get(), RawPeer(target_), stop);
    }
  }
  void forward(int client, const RawPeer& server, const std::stop_token& stop) {
    std::size_t forwarded = 0;
    while (!stop.stop_requested()) {
      pollfd ends[] = {{client, POLLIN, 0}, {server.fd(), POLLIN, 0}};
      if (::poll(ends, 2, 10) <= 0) continue;
      for (int from = 0; from < 2; ++from) {
        if (ends[from].revents == 0) continue;
        char bytes[4096];
        const ssize_t got = ::recv(ends[from].fd, bytes, sizeof(bytes), 0);
        if (got <= 0) return;
        forwarded += static_cast<std::size_t>(got);
        if (forwarded > cut_after_bytes_) {
          ++cuts_;
          return;
        }
        ::send(ends[1 - from].fd, bytes, static_cast<std::size_t>(got), MSG_NOSIGNAL);
      }
    }
  }

  std::string target_;
  std::size_t cut_after_bytes_;
  UniqueFd listener_;
  std::string endpoint_;
  std::atomic<int> cuts_{0};
  std::jthread thread_;
};

class RemoteQueue : public testing::Test {
 protected:
  std::unique_ptr<Context> context_ = *Context::create({});
};

TEST_F(RemoteQueue, every_receiver_gets_every_record_in_order) {
  constexpr uint64_t kRecords = 3'000;
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 2, kQuick);
  std::atomic<int> running{2};
  std::atomic<bool> is_done{false};
  std::vector<std::jthread> receivers;
  for (uint32_t index = 0; index < 2; ++index) {
    receivers.emplace_back([&, index] {
      const auto receiver = *RemoteReceiver::connect(*context_, sender->endpoint(), index, kQuick);
      expect_records(*receiver, 0, kRecords);
      if (--running == 0) is_done = true;
    });
  }
  for (uint64_t number = 0; number < kRecords; ++number) {
    ASSERT_TRUE(sender->send(make_record(number), patience()).ok());
  }
  serve_until(*sender, is_done);
}

TEST_F(RemoteQueue, receiver_that_binds_collects_from_all_its_senders) {
  constexpr uint64_t kRecords = 1'000;
  const auto receiver = *RemoteReceiver::bind(*context_, kLoopback, 3, kQuick);
  std::atomic<bool> is_done{false};
  std::vector<std::jthread> senders;
  for (uint32_t index = 0; index < 3; ++index) {
    senders.emplace_back([&, index] {
      const auto sender = *RemoteSender::connect(*context_, receiver->endpoint(), index, kQuick);
      for (uint64_t number = 0; number < kRecords; ++number) {
        ASSERT_TRUE(sender->send(make_record(number), patience()).ok());
      }
      serve_until(*sender, is_done);
    });
  }
  uint64_t next[3] = {};
  for (uint64_t i = 0; i < 3 * kRecords; ++i) {
    const auto record = receiver->receive(patience());
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_TRUE(is_record(*record, next[receiver->last_sender()]++));
    receiver->release();
  }
  is_done = true;
}

TEST_F(RemoteQueue, connections_cut_in_mid_stream_lose_nothing) {
  constexpr uint64_t kRecords = 400;
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 1, kQuick);
  CuttingProxy proxy(sender->endpoint(), 15'000);
  std::atomic<bool> is_done{false};
  const std::jthread thread([&] {
    const auto receiver = *RemoteReceiver::connect(*context_, proxy.endpoint(), 0, kQuick);
    expect_records(*receiver, 0, kRecords);
    is_done = true;
  });
  for (uint64_t number = 0; number < kRecords; ++number) {
    ASSERT_TRUE(sender->send(make_record(number), patience()).ok()) << number;
  }
  serve_until(*sender, is_done);
  EXPECT_GT(proxy.cuts(), 2);
}

TEST_F(RemoteQueue, full_window_names_the_receiver_that_is_behind) {
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 2, kQuick);
  Status full = absl::OkStatus();
  for (int i = 0; i < 10 && full.ok(); ++i) {
    full = sender->send({}, Deadline::after(std::chrono::milliseconds(1)));
  }
  EXPECT_EQ(full, Status(StatusCode::kDeadlineExceeded,
                         "receiver 0 of the remote queue is 8 records behind and takes no more"));
}

TEST_F(RemoteQueue, record_over_the_limit_is_refused_with_both_numbers) {
  RemoteQueueOptions options = kQuick;
  options.record_bytes_max = 100;
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 1, options);
  EXPECT_EQ(
      sender->send(std::vector<std::byte>(101), patience()),
      Status(StatusCode::kInvalidArgument, "a record of 101 bytes; the queue takes up to 100"));
}

TEST_F(RemoteQueue, receiver_started_anew_is_noticed_by_the_sender) {
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 1, kQuick);
  auto receiver = *RemoteReceiver::connect(*context_, sender->endpoint(), 0, kQuick);
  receiver->serve_while_waiting(*sender);
  for (uint64_t number = 0; number < 20; ++number) {
    ASSERT_TRUE(sender->send(make_record(number), Deadline::after(kPatience)).ok());
    expect_records(*receiver, number, number + 1);
  }
  receiver.reset();
  receiver = *RemoteReceiver::connect(*context_, sender->endpoint(), 0, kQuick);
  Status status = absl::OkStatus();
  for (const auto deadline = patience(); status.ok() && !deadline.has_passed();) {
    status = sender->send({}, patience());
  }
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
}

TEST_F(RemoteQueue, sender_started_anew_is_noticed_by_the_receiver) {
  const auto receiver = *RemoteReceiver::bind(*context_, kLoopback, 1, kQuick);
  for (const bool is_first : {true, false}) {
    const auto sender = *RemoteSender::connect(*context_, receiver->endpoint(), 0, kQuick);
    ASSERT_TRUE(sender->send(make_record(0), patience()).ok());
    if (is_first) {
      expect_records(*receiver, 0, 1);
    } else {
      EXPECT_EQ(receiver->receive(patience()).status().code(), StatusCode::kUnavailable);
    }
  }
}

TEST_F(RemoteQueue, strangers_are_ignored_and_counted) {
  const auto sender = *RemoteSender::bind(*context_, kLoopback, 1, kQuick);
  auto stranger = *Dealer::create(*context_, "stranger");
  auto false_peer = *Dealer::create(*context_, "q7");
  for (Dealer* dealer : {&stranger, &false_peer}) {
    ASSERT_TRUE(dealer->connect(sender->endpoint()).ok());
    ASSERT_EQ(dealer->try_send(bytes_of("give me everything")), SendResult::kSent);
  }
  const auto receiver = *RemoteReceiver::connect(*context_, sender->endpoint(), 0, kQuick);
  receiver->serve_while_waiting(*sender);
  uint64_t number = 0;
  for (const auto deadline = patience(); sender->ignored_total() < 2 && !deadline.has_passed();) {
    ASSERT_TRUE(sender->send(make_record(number), patience()).ok());
    expect_records(*receiver, number, number + 1);
    ++number;
  }
  EXPECT_EQ(sender->ignored_total(), 2);
}

}  // namespace
}  // namespace trireme::zmq
