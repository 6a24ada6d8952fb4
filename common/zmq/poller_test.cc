#include "common/zmq/poller.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "common/zmq/dealer.h"
#include "common/zmq/router.h"
#include "common/zmq/test_links.h"
#include "common/zmq/wakeup.h"

namespace trireme::zmq {
namespace {

constexpr uint64_t kRouterToken = 1, kWakeupToken = 2, kDealerToken = 3;

class PollerTest : public testing::Test {
 protected:
  PollerTest()
      : context_(*Context::create({})),
        router_(*Router::create(*context_)),
        dealer_(*Dealer::create(*context_, "a", {.linger = Duration::zero()})),
        poller_(*Poller::create()) {
    EXPECT_TRUE(router_.bind("tcp://127.0.0.1:0").ok());
    EXPECT_TRUE(dealer_.connect(router_.last_endpoint()).ok());
  }

  std::unique_ptr<Context> context_;
  Router router_;
  Dealer dealer_;
  Poller poller_;
  Message message_;
};

TEST_F(PollerTest, wait_ends_at_its_deadline_with_nothing) {
  ASSERT_TRUE(poller_.add(router_, kRouterToken).ok());
  const Instant begin = now();
  EXPECT_TRUE(poller_.wait(Deadline::after(std::chrono::milliseconds(20))).empty());
  EXPECT_GE(now() - begin, std::chrono::milliseconds(20));
}

TEST_F(PollerTest, wakeup_of_another_thread_ends_the_wait) {
  const auto wakeup = Wakeup::create();
  ASSERT_TRUE(poller_.add_fd(wakeup->fd(), kWakeupToken).ok());
  const std::jthread other([&] { wakeup->notify(); });
  const auto ready = poller_.wait(Deadline::after(kPatience));
  ASSERT_EQ(ready.size(), 1);
  EXPECT_EQ(ready[0].token, kWakeupToken);
  wakeup->drain();
  EXPECT_TRUE(poller_.wait(Deadline(now())).empty());
}

TEST_F(PollerTest, socket_is_reported_until_it_is_drained) {
  ASSERT_TRUE(poller_.add(router_, kRouterToken).ok());
  for (int i = 0; i < 3; ++i) ASSERT_EQ(dealer_.try_send(bytes_of("x")), SendResult::kSent);
  for (int i = 0; i < 3; ++i) {
    const auto ready = poller_.wait(Deadline::after(kPatience));
    ASSERT_EQ(ready.size(), 1);
    ASSERT_TRUE(ready[0].readable);
    ASSERT_TRUE(router_.try_receive(message_));
  }
  EXPECT_FALSE(router_.try_receive(message_));
  EXPECT_TRUE(poller_.wait(Deadline(now())).empty());
}

TEST_F(PollerTest, message_is_not_missed_when_a_send_took_in_its_announcement) {
  ASSERT_EQ(dealer_.try_send(bytes_of("hello")), SendResult::kSent);
  ASSERT_TRUE(receive_within(router_, message_));
  ASSERT_TRUE(poller_.add(dealer_, kDealerToken).ok());
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(router_.try_send("a", bytes_of("answer")), SendResult::kSent);
    ASSERT_EQ(dealer_.try_send(bytes_of("question")), SendResult::kSent);
    ASSERT_FALSE(poller_.wait(Deadline::after(kPatience)).empty()) << "round " << i;
    while (!dealer_.try_receive(message_)) {
    }
    while (!router_.try_receive(message_)) {
    }
  }
}

TEST_F(PollerTest, full_dealer_is_reported_once_it_takes_messages_again) {
  Dealer narrow = *Dealer::create(*context_, "b", {.send_messages_max = 1, .linger = {}});
  const std::string large(1 << 20, 'x');
  auto late = std::make_unique<Router>(*Router::create(*context_));
  ASSERT_TRUE(late->bind("tcp://127.0.0.1:0").ok());
  ASSERT_TRUE(narrow.connect(late->last_endpoint()).ok());
  int sent = 0;
  for (const auto deadline = Deadline::after(kQuiet); !deadline.has_passed();) {
    sent += narrow.try_send(bytes_of(large)) == SendResult::kSent ? 1 : 0;
  }
  ASSERT_LT(sent, 5000);
  ASSERT_TRUE(poller_.add(narrow, kDealerToken).ok());
  poller_.want_writable(kDealerToken, true);
  while (late->try_receive(message_)) {
  }
  const auto ready = poller_.wait(Deadline::after(kPatience));
  ASSERT_EQ(ready.size(), 1);
  EXPECT_TRUE(ready[0].writable);
}

TEST_F(PollerTest, removed_entry_is_no_longer_reported) {
  ASSERT_TRUE(poller_.add(router_, kRouterToken).ok());
  EXPECT_FALSE(poller_.add(dealer_, kRouterToken).ok());
  ASSERT_EQ(dealer_.try_send(bytes_of("x")), SendResult::kSent);
  ASSERT_FALSE(poller_.wait(Deadline::after(kPatience)).empty());
  poller_.remove(kRouterToken);
  EXPECT_TRUE(poller_.wait(Deadline(now())).empty());
}

}  // namespace
}  // namespace trireme::zmq
