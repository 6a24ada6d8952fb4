#include "engine_core/lockstep/peer_links.h"

#include <gtest/gtest.h>

#include "common/clock.h"

namespace trireme::engine {
namespace {

constexpr WaveId kWave{5};

class Node {
 public:
  explicit Node(const std::string& name)
      : links_(*PeerLinks::listen(*context_, poller_, "127.0.0.1", name, 1)) {}

  [[nodiscard]] const std::string& endpoint() const { return links_->endpoint(); }
  void begin_wave(WaveId wave, uint32_t node, const std::string& root) {
    links_->begin_wave(wave, node, {root, ""});
  }
  void say_up(WaveId wave, uint64_t step) {
    links_->send(0, {.wave = wave, .step = step, .from_node = 1});
  }
  void answer(WaveId wave, uint64_t step) {
    links_->send(1, {.wave = wave, .step = step, .is_down = true});
  }
  // Nothing: none came in time.
  std::optional<wire::StepAgreement> receive(Duration patience = std::chrono::seconds(10)) {
    for (const Instant end = now() + patience; now() < end;) {
      if (auto message = links_->receive()) return message;
      (void)poller_.wait(Deadline(now() + std::chrono::milliseconds(1)));
    }
    return std::nullopt;
  }

 private:
  std::unique_ptr<zmq::Context> context_ = *zmq::Context::create({});
  zmq::Poller poller_ = *zmq::Poller::create();
  std::unique_ptr<PeerLinks> links_;
};

class PeerLinksTest : public testing::Test {
 protected:
  PeerLinksTest() {
    root_.begin_wave(kWave, 0, "");
    child_.begin_wave(kWave, 1, root_.endpoint());
    child_.say_up(kWave, 1);
    EXPECT_TRUE(root_.receive());
  }

  Node root_{"root"};
  Node child_{"child"};
  Node other_{"other"};
};

TEST_F(PeerLinksTest, who_is_left_behind_in_an_older_wave_takes_nobodys_place) {
  other_.begin_wave(WaveId{3}, 1, root_.endpoint());
  other_.say_up(WaveId{3}, 9);
  EXPECT_TRUE(root_.receive());
  root_.answer(kWave, 1);
  const auto heard = child_.receive();
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->step, 1U);
}

TEST_F(PeerLinksTest, the_next_wave_may_give_a_number_to_another_node) {
  const WaveId next = kWave.next();
  other_.begin_wave(next, 1, root_.endpoint());
  other_.say_up(next, 1);
  EXPECT_TRUE(root_.receive());
  root_.begin_wave(next, 0, "");
  root_.answer(kWave, 1);
  root_.answer(next, 1);
  const auto of_child = child_.receive();
  const auto of_other = other_.receive();
  ASSERT_TRUE(of_child && of_other);
  EXPECT_EQ(of_child->wave, kWave);
  EXPECT_EQ(of_other->wave, next);
}

}  // namespace
}  // namespace trireme::engine
