// Goal: links between Router and Dealer keep their bounds and survive their peers.
// Method: loopback, port 0; a hostile peer is a raw TCP connection.
#include "common/zmq/socket.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>

#include "common/zmq/dealer.h"
#include "common/zmq/router.h"
#include "common/zmq/test_links.h"

namespace trireme::zmq {
namespace {

class SocketTest : public testing::Test {
 protected:
  SocketTest() : context_(*Context::create({})) {}

  Router make_router(const SocketOptions& options = {}) {
    auto router = Router::create(*context_, options);
    EXPECT_TRUE(router.ok()) << router.status();
    EXPECT_TRUE(router->bind("tcp://127.0.0.1:0").ok());
    return *std::move(router);
  }
  Dealer make_dealer(const std::string& endpoint, std::string_view identity,
                     const SocketOptions& options = {}) {
    auto dealer = Dealer::create(*context_, identity, options);
    EXPECT_TRUE(dealer.ok()) << dealer.status();
    EXPECT_TRUE(dealer->connect(endpoint).ok());
    return *std::move(dealer);
  }

  std::unique_ptr<Context> context_;
  Message message_;
};

TEST_F(SocketTest, frames_come_whole_with_the_senders_identity_and_go_back) {
  Router router = make_router();
  Dealer dealer = make_dealer(router.last_endpoint(), "engine-3");
  const std::string large(100'000, 'x');
  ASSERT_EQ(dealer.try_send(std::array{bytes_of("head"), bytes_of(large), bytes_of("")}),
            SendResult::kSent);
  ASSERT_TRUE(receive_within(router, message_));
  EXPECT_EQ(message_.peer(), "engine-3");
  ASSERT_EQ(message_.frame_count(), 3);
  EXPECT_EQ(text_of(message_.frame(0)), "head");
  EXPECT_EQ(text_of(message_.frame(1)), large);
  EXPECT_EQ(text_of(message_.frame(2)), "");
  ASSERT_EQ(router.try_send("engine-3", bytes_of("back")), SendResult::kSent);
  ASSERT_TRUE(receive_within(dealer, message_));
  EXPECT_EQ(text_of(message_.frame(0)), "back");
}

TEST_F(SocketTest, owned_buffers_of_any_size_arrive) {
  Router router = make_router();
  Dealer dealer = make_dealer(router.last_endpoint(), "a");
  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, std::size_t{1} << 20}) {
    std::vector<std::byte> buffer(size, std::byte{7});
    ASSERT_EQ(dealer.try_send_owned(buffer), SendResult::kSent);
    EXPECT_TRUE(buffer.empty());
    ASSERT_TRUE(receive_within(router, message_));
    EXPECT_EQ(message_.frame(0).size(), size);
  }
}

TEST_F(SocketTest, full_queue_says_so_and_leaves_the_buffer_with_the_caller) {
  Dealer dealer =
      make_dealer("tcp://127.0.0.1:9", "a", {.send_messages_max = 2, .linger = Duration::zero()});
  std::vector<std::byte> buffer;
  int sent = 0;
  do {
    buffer.assign(20'000, std::byte{5});
    ASSERT_LE(++sent, 3);
  } while (dealer.try_send_owned(buffer) == SendResult::kSent);
  EXPECT_EQ(buffer, std::vector(20'000, std::byte{5}));
}

TEST_F(SocketTest, slow_peer_fills_its_own_queue_only) {
  Router router = make_router({.send_messages_max = 10, .linger = Duration::zero()});
  Dealer slow = make_dealer(router.last_endpoint(), "slow", {.receive_messages_max = 1});
  Dealer fast = make_dealer(router.last_endpoint(), "fast");
  for (Dealer* dealer : {&slow, &fast}) {
    ASSERT_EQ(dealer->try_send(bytes_of("hello")), SendResult::kSent);
    ASSERT_TRUE(receive_within(router, message_));
  }
  const std::string large(1 << 20, 'x');
  int sent = 0;
  while (router.try_send("slow", bytes_of(large)) == SendResult::kSent) ASSERT_LT(++sent, 1000);
  ASSERT_EQ(router.try_send("fast", bytes_of("now")), SendResult::kSent);
  EXPECT_TRUE(receive_within(fast, message_));
}

TEST_F(SocketTest, unknown_peer_is_no_peer) {
  Router router = make_router();
  EXPECT_EQ(router.try_send("nobody", bytes_of("x")), SendResult::kNoPeer);
}

TEST_F(SocketTest, dealer_finds_a_router_that_starts_later_and_one_that_restarts) {
  auto first = std::make_unique<Router>(make_router());
  const std::string endpoint = first->last_endpoint();
  first.reset();
  Dealer dealer = make_dealer(endpoint, "a");
  for (int incarnation = 0; incarnation < 2; ++incarnation) {
    auto router = Router::create(*context_);
    Status bound = absl::UnknownError("not tried");
    for (const auto deadline = Deadline::after(kPatience); !deadline.has_passed();) {
      bound = router->bind(endpoint);  // The old one's I/O thread may still hold the port.
      if (bound.ok()) break;
      std::this_thread::yield();
    }
    ASSERT_TRUE(bound.ok()) << bound;
    // What is sent before the dealer notices the loss is lost with the connection.
    bool is_heard = false;
    for (const auto deadline = Deadline::after(kPatience); !is_heard && !deadline.has_passed();) {
      ASSERT_EQ(dealer.try_send(bytes_of("hello")), SendResult::kSent);
      is_heard = receive_within(*router, message_, kQuiet / 10);
    }
    ASSERT_TRUE(is_heard);
    EXPECT_EQ(message_.peer(), "a");
  }
}

TEST_F(SocketTest, newcomer_takes_over_an_identity_in_use) {
  Router router = make_router();
  Dealer old_one = make_dealer(router.last_endpoint(), "rank-1");
  ASSERT_EQ(old_one.try_send(bytes_of("old")), SendResult::kSent);
  ASSERT_TRUE(receive_within(router, message_));
  Dealer new_one = make_dealer(router.last_endpoint(), "rank-1");
  ASSERT_EQ(new_one.try_send(bytes_of("new")), SendResult::kSent);
  ASSERT_TRUE(receive_within(router, message_));
  ASSERT_EQ(router.try_send("rank-1", bytes_of("for the new one")), SendResult::kSent);
  EXPECT_TRUE(receive_within(new_one, message_));
  EXPECT_FALSE(old_one.try_receive(message_));
}

TEST_F(SocketTest, frame_over_the_limit_is_refused_before_it_is_stored) {
  Router router = make_router({.frame_bytes_max = 1 << 20});
  RawPeer peer(router.last_endpoint());
  ASSERT_TRUE(peer.shake_hands());
  peer.send(std::string("\2\0\0\0\0\x40\0\0\0", 9));  // A frame of 1 GiB follows, it says.
  EXPECT_TRUE(peer.is_closed_within(kPatience));
  EXPECT_FALSE(router.try_receive(message_));
}

TEST_F(SocketTest, peer_that_answers_no_heartbeat_is_disconnected) {
  Router router = make_router({.heartbeat_interval = std::chrono::milliseconds(50),
                               .heartbeat_timeout = std::chrono::milliseconds(100)});
  RawPeer peer(router.last_endpoint());
  ASSERT_TRUE(peer.shake_hands());
  EXPECT_TRUE(peer.is_closed_within(kPatience));
}

TEST_F(SocketTest, peer_that_never_says_anything_is_disconnected) {
  Router router = make_router({.handshake_timeout = std::chrono::milliseconds(100)});
  RawPeer peer(router.last_endpoint());
  EXPECT_TRUE(peer.is_closed_within(kPatience));
}

TEST_F(SocketTest, message_of_too_many_frames_is_dropped_and_counted) {
  Router router = make_router();
  RawPeer peer(router.last_endpoint());
  ASSERT_TRUE(peer.shake_hands());
  std::string frames;
  for (std::size_t i = 0; i < kFramesMax; ++i) frames += std::string("\1\1x", 3);
  peer.send(frames + std::string("\0\1x", 3) + std::string("\0\4good", 6));
  ASSERT_TRUE(receive_within(router, message_));
  EXPECT_EQ(text_of(message_.frame(0)), "good");
  EXPECT_EQ(router.dropped_total(), 1);
}

TEST_F(SocketTest, garbage_disturbs_nobody) {
  Router router = make_router();
  Dealer dealer = make_dealer(router.last_endpoint(), "good");
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(70'000, '\xff'), std::string(64, '\0'),
        std::string("\xff\0\0\0\0\0\0\0\1\x7f\3", 11) + std::string(100'000, 'z')}) {
    RawPeer peer(router.last_endpoint());
    peer.send(garbage);
    ASSERT_EQ(dealer.try_send(bytes_of("still here")), SendResult::kSent);
    ASSERT_TRUE(receive_within(router, message_));
    EXPECT_EQ(message_.peer(), "good");
  }
}

TEST_F(SocketTest, ipv6_works_and_the_endpoint_says_so) {
  auto router = Router::create(*context_);
  if (!router->bind("tcp://[::1]:0").ok()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_TRUE(router->last_endpoint().starts_with("tcp://[::1]:")) << router->last_endpoint();
  Dealer dealer = make_dealer(router->last_endpoint(), "six");
  ASSERT_EQ(dealer.try_send(bytes_of("hello")), SendResult::kSent);
  EXPECT_TRUE(receive_within(*router, message_));
}

TEST_F(SocketTest, bad_endpoints_and_identities_are_named) {
  Router router = make_router();
  auto second = Router::create(*context_);
  EXPECT_NE(second->bind(router.last_endpoint()).message().find(router.last_endpoint()),
            std::string_view::npos);
  EXPECT_FALSE(second->bind("tcp://127.0.0.1").ok());
  EXPECT_FALSE(Dealer::create(*context_, "").ok());
  EXPECT_FALSE(Dealer::create(*context_, std::string(256, 'a')).ok());
}

}  // namespace
}  // namespace trireme::zmq
