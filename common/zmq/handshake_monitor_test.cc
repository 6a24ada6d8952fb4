// Goal: who does not get through the handshake is counted, who does is not.
// Method: raw TCP peers, strangers and members against a Router on loopback, with and without a
// key.
#include "common/zmq/handshake_monitor.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <thread>

#include "common/random.h"
#include "common/zmq/dealer.h"
#include "common/zmq/router.h"
#include "common/zmq/test_links.h"

namespace trireme::zmq {
namespace {

class Handshakes : public testing::TestWithParam<bool> {
 protected:
  Handshakes() : key_(key_for(GetParam())), context_(*Context::create({.key = key_})) {
    router_ = std::make_unique<Router>(*Router::create(*context_, options_));
    EXPECT_TRUE(router_->bind("tcp://127.0.0.1:0").ok());
    endpoint_ = router_->last_endpoint();
  }
  static std::optional<ClusterKey> key_for(bool has_key) {
    if (has_key) return ClusterKey::generate();
    return std::nullopt;
  }
  bool counts(uint64_t wanted) {
    const Deadline deadline = Deadline::after(kPatience);
    while (router_->handshakes_failed_total() < wanted && !deadline.has_passed()) {
      (void)router_->try_receive(message_);  // What libzmq takes for messages goes by.
      std::this_thread::yield();
    }
    return router_->handshakes_failed_total() == wanted;
  }
  void talk(const char* identity) {
    auto dealer = Dealer::create(*context_, identity);
    ASSERT_TRUE(dealer->connect(endpoint_).ok());
    ASSERT_EQ(dealer->try_send(bytes_of("hello")), SendResult::kSent);
    do {
      ASSERT_TRUE(receive_within(*router_, message_));
    } while (message_.peer() != identity);
  }

  const SocketOptions options_{.handshake_timeout = std::chrono::milliseconds(200)};
  const std::optional<ClusterKey> key_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Router> router_;
  std::string endpoint_;
  Message message_;
};
INSTANTIATE_TEST_SUITE_P(, Handshakes, testing::Bool(),
                         [](const auto& has_key) { return has_key.param ? "key" : "no_key"; });

TEST_P(Handshakes, another_protocol_is_counted) {
  { RawPeer(endpoint_).send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); }
  EXPECT_TRUE(counts(1));
}

TEST_P(Handshakes, garbage_of_every_kind_is_counted_and_disturbs_nobody) {
  Random random(3);
  constexpr uint64_t kPeers = 50;
  for (uint64_t i = 0; i < kPeers; ++i) {
    std::string garbage(1 + random.below(300), '\0');
    for (char& c : garbage) c = static_cast<char>(random.next());
    if (i % 2 == 0) garbage[0] = '\xff';  // The first byte of ZMTP.
    RawPeer(endpoint_).send(garbage);
  }
  talk("member");
  EXPECT_TRUE(counts(kPeers));
}

TEST_P(Handshakes, silence_is_counted_when_its_time_is_over) {
  RawPeer peer(endpoint_);
  EXPECT_TRUE(peer.is_closed_within(kPatience));
  EXPECT_TRUE(counts(1));
}

TEST_P(Handshakes, a_peer_that_gets_through_is_not_counted) {
  for (const char* identity : {"a", "b", "c"}) talk(identity);
  { RawPeer(endpoint_).send("x"); }
  EXPECT_TRUE(counts(1));  // The one, and none of the three that came and went before it.
}

TEST_P(Handshakes, every_connection_that_ends_is_told) {
  for (const char* identity : {"a", "b"}) talk(identity);
  const Deadline deadline = Deadline::after(kPatience);
  while (router_->connections_ended_total() < 2 && !deadline.has_passed()) {
    std::this_thread::yield();
  }
  EXPECT_EQ(router_->connections_ended_total(), 2u);
}

TEST_P(Handshakes, the_count_outlives_a_move) {
  { RawPeer(endpoint_).send("x"); }
  EXPECT_TRUE(counts(1));
  Router moved = std::move(*router_);
  EXPECT_EQ(moved.handshakes_failed_total(), 1);
  *router_ = std::move(moved);
  { RawPeer(endpoint_).send("x"); }
  EXPECT_TRUE(counts(2));
}

TEST(HandshakesWithKey, another_key_is_counted) {
  const auto context = *Context::create({.key = ClusterKey::generate()});
  auto router = Router::create(*context);
  ASSERT_TRUE(router->bind("tcp://127.0.0.1:0").ok());
  const auto other = *Context::create({.key = ClusterKey::generate()});
  auto dealer = Dealer::create(*other, "a", {.linger = Duration::zero()});
  ASSERT_TRUE(dealer->connect(router->last_endpoint()).ok());
  const Deadline deadline = Deadline::after(kPatience);
  while (router->handshakes_failed_total() == 0 && !deadline.has_passed()) {
    std::this_thread::yield();
  }
  EXPECT_GT(router->handshakes_failed_total(), 0);
}

}  // namespace
}  // namespace trireme::zmq
