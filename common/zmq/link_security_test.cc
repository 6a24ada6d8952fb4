// Goal: beyond loopback only holders of the cluster's key get in; everybody else gets nothing.
// Method: links with and without keys over "tcp://*:0" and 127.0.0.1.
#include <gtest/gtest.h>
#include <zmq.h>

#include <memory>
#include <thread>

#include "common/zmq/dealer.h"
#include "common/zmq/router.h"
#include "common/zmq/test_links.h"

namespace trireme::zmq {
namespace {

class LinkSecurity : public testing::Test {
 protected:
  LinkSecurity() : context_(*Context::create({.key = key_})), router_(*Router::create(*context_)) {
    EXPECT_TRUE(router_.bind("tcp://*:0").ok());
    const std::string any = router_.last_endpoint();
    endpoint_ = "tcp://127.0.0.1" + any.substr(any.rfind(':'));
  }
  // Whether a dealer with these settings reaches the router, and hears back, within the time.
  bool gets_through(ContextOptions options, Duration patience) {
    const auto context = *Context::create(std::move(options));
    auto dealer = Dealer::create(*context, "peer", {.linger = Duration::zero()});
    EXPECT_TRUE(dealer->connect(endpoint_).ok());
    EXPECT_EQ(dealer->try_send(bytes_of("let me in")), SendResult::kSent);
    if (!receive_within(router_, message_, patience)) {
      EXPECT_FALSE(dealer->try_receive(message_));
      return false;
    }
    EXPECT_EQ(router_.try_send("peer", bytes_of("welcome")), SendResult::kSent);
    return receive_within(*dealer, message_);
  }

  const ClusterKey key_ = ClusterKey::generate();
  std::unique_ptr<Context> context_;
  Router router_;
  std::string endpoint_;
  Message message_;
};

TEST_F(LinkSecurity, holder_of_the_key_gets_in) {
  EXPECT_TRUE(gets_through({.key = key_}, kPatience));
  EXPECT_EQ(context_->refused_peers_total(), 0);
}

TEST_F(LinkSecurity, another_key_gets_nothing) {
  EXPECT_FALSE(gets_through({.key = ClusterKey::generate()}, kQuiet));
}

TEST_F(LinkSecurity, no_key_gets_nothing) {
  EXPECT_FALSE(gets_through({.insecure = true}, kQuiet));
}

TEST_F(LinkSecurity, raw_peer_hears_the_greeting_of_zmtp_and_nothing_of_ours) {
  RawPeer peer(endpoint_);
  EXPECT_FALSE(peer.shake_hands());
  EXPECT_TRUE(peer.is_closed_within(kPatience));
  EXPECT_LE(peer.heard().size(), 64);
}

TEST_F(LinkSecurity, refused_peers_do_not_disturb_the_others) {
  EXPECT_FALSE(gets_through({.key = ClusterKey::generate()}, kQuiet));
  EXPECT_TRUE(gets_through({.key = key_}, kPatience));
}

TEST_F(LinkSecurity, the_public_half_alone_does_not_open_the_door) {
  // Our sockets cannot be built this way: libzmq itself plays the thief, with a key pair of its
  // own.
  void* const context = ::zmq_ctx_new();
  void* const thief = ::zmq_socket(context, ZMQ_DEALER);
  const ClusterKey own = ClusterKey::generate();
  ::zmq_setsockopt(thief, ZMQ_CURVE_SERVERKEY, key_.public_z85().c_str(), 40);
  ::zmq_setsockopt(thief, ZMQ_CURVE_PUBLICKEY, own.public_z85().c_str(), 40);
  ::zmq_setsockopt(thief, ZMQ_CURVE_SECRETKEY, own.secret_z85().c_str(), 40);
  ASSERT_EQ(::zmq_connect(thief, endpoint_.c_str()), 0);
  for (const auto deadline = Deadline::after(kPatience);
       context_->refused_peers_total() == 0 && !deadline.has_passed();) {
    std::this_thread::yield();
  }
  EXPECT_GT(context_->refused_peers_total(), 0);
  EXPECT_FALSE(router_.try_receive(message_));
  ::zmq_close(thief);
  ::zmq_ctx_term(context);
}

TEST(LinkWithKey, frames_as_large_as_the_limit_get_through) {
  constexpr int64_t kLimit = 4096;
  const auto context = *Context::create({.key = ClusterKey::generate()});
  auto router = Router::create(*context, {.frame_bytes_max = kLimit});
  auto dealer = Dealer::create(*context, "peer");
  ASSERT_TRUE(router->bind("tcp://127.0.0.1:0").ok());
  ASSERT_TRUE(dealer->connect(router->last_endpoint()).ok());
  const std::vector<std::byte> whole(kLimit, std::byte{7});
  ASSERT_EQ(dealer->try_send(Bytes(whole)), SendResult::kSent);
  Message message;
  ASSERT_TRUE(receive_within(*router, message));
  EXPECT_EQ(message.frame(0).size(), whole.size());
}

TEST(LinkWithoutKey, going_beyond_loopback_is_refused_and_says_what_to_type) {
  const auto context = *Context::create({});
  auto router = Router::create(*context);
  EXPECT_NE(router->bind("tcp://*:0").message().find("trireme key new"), std::string_view::npos);
  auto dealer = Dealer::create(*context, "a");
  EXPECT_FALSE(dealer->connect("tcp://192.0.2.1:13345").ok());
}

TEST(LinkWithKey, loopback_only_link_stays_in_clear_and_on_this_machine) {
  const auto context = *Context::create({.key = ClusterKey::generate()});
  auto router = Router::create(*context, {.loopback_only = true});
  EXPECT_FALSE(router->bind("tcp://*:0").ok());
  ASSERT_TRUE(router->bind("tcp://127.0.0.1:0").ok());
  const auto clear = *Context::create({});
  auto dealer = Dealer::create(*clear, "a");
  ASSERT_TRUE(dealer->connect(router->last_endpoint()).ok());
  ASSERT_EQ(dealer->try_send(bytes_of("hello")), SendResult::kSent);
  Message message;
  EXPECT_TRUE(receive_within(*router, message));
}

}  // namespace
}  // namespace trireme::zmq
