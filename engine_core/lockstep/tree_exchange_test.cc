#include "engine_core/lockstep/tree_exchange.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>

namespace trireme::engine {
namespace {

// What a node has sent; the test delivers it, or not.
class Post final : public StepCarrier {
 public:
  void begin_wave(WaveId, uint32_t, std::vector<std::string> addresses) override {
    addresses_of_wave = std::move(addresses);
  }
  void send(uint32_t node, const wire::StepAgreement& message) override {
    mail.emplace_back(node, message);
  }
  std::vector<std::string> addresses_of_wave;
  std::deque<std::pair<uint32_t, wire::StepAgreement>> mail;
};

// A node of two ranks.
class Node {
 public:
  Node(uint32_t first_rank, uint32_t count) : parts_(*StepBoard::create(first_rank, count)) {
    for (uint32_t i = 0; i < count; ++i) {
      std::vector<UniqueFd> bells;
      for (const UniqueFd& bell : parts_.bells) bells.emplace_back(::dup(bell.get()));
      auto memory = shm::Mapping::attach(UniqueFd(::dup(parts_.memory.fd())));
      auto board = StepBoard::attach(*std::move(memory), std::move(bells), first_rank + i);
      ranks.push_back(std::make_unique<TreeExchange>(first_rank + i, *std::move(board), post));
    }
  }
  void enter(const wire::StartWave& start) {
    for (const auto& rank : ranks) rank->enter(start);
  }
  void say(WaveId wave, uint64_t step, const std::vector<uint32_t>& all) {
    for (const auto& rank : ranks) rank->post({.wave = wave, .step = step, .has_work = true}, all);
  }

  Post post;
  std::vector<std::unique_ptr<TreeExchange>> ranks;

 private:
  StepBoard::Parts parts_;
};

class TreeExchangeTest : public testing::Test {
 protected:
  static wire::StartWave start(uint64_t wave) {
    return {.wave = WaveId{wave},
            .ranks = {0, 1, 2, 3},
            .nodes = {0, 0, 1, 1},
            .addresses = {{"a"}, {"b"}, {"c"}, {"d"}}};
  }
  void enter(uint64_t wave) {
    front_.enter(start(wave));
    back_.enter(start(wave));
  }
  std::optional<StepSummary> gather(Node& node, uint32_t index, uint64_t wave, uint64_t step) {
    return node.ranks[index]->gather(WaveId{wave}, step, all_);
  }
  // Only the first rank of a node hears; the I/O thread of another has no such message.
  static void deliver(Node& from, Node& to) {
    for (const auto& [node, message] : std::exchange(from.post.mail, {})) {
      to.ranks[0]->hear(message);
    }
  }

  const std::vector<uint32_t> all_ = {0, 1, 2, 3};
  Node front_{0, 2};
  Node back_{2, 2};
};

TEST_F(TreeExchangeTest, all_ranks_of_both_nodes_get_the_summary) {
  enter(5);
  EXPECT_EQ(front_.post.addresses_of_wave, (std::vector<std::string>{"a", "c"}));
  front_.say(WaveId{5}, 1, all_);
  back_.say(WaveId{5}, 1, all_);
  EXPECT_FALSE(gather(front_, 0, 5, 1));
  EXPECT_EQ(front_.ranks[0]->missing(WaveId{5}, 1, all_), (std::vector<uint32_t>{2, 3}));
  EXPECT_FALSE(gather(back_, 0, 5, 1));
  deliver(back_, front_);
  deliver(front_, back_);
  for (Node* node : {&front_, &back_}) {
    for (const uint32_t index : {0U, 1U}) {
      const auto summary = gather(*node, index, 5, 1);
      ASSERT_TRUE(summary);
      EXPECT_TRUE(summary->has_work);
    }
  }
}

TEST_F(TreeExchangeTest, what_is_said_before_this_node_is_in_the_wave_counts) {
  back_.enter(start(5));
  back_.say(WaveId{5}, 1, all_);
  EXPECT_FALSE(gather(back_, 0, 5, 1));
  deliver(back_, front_);
  front_.enter(start(5));
  front_.say(WaveId{5}, 1, all_);
  EXPECT_TRUE(gather(front_, 0, 5, 1));
}

// Found by reading the protocol's model: the node above was in the next wave, and had forgotten.
TEST_F(TreeExchangeTest, the_last_result_of_a_wave_is_said_again_when_it_was_lost) {
  enter(5);
  front_.say(WaveId{5}, 1, all_);
  back_.say(WaveId{5}, 1, all_);
  (void)gather(back_, 0, 5, 1);
  (void)gather(front_, 0, 5, 1);
  deliver(back_, front_);
  ASSERT_TRUE(gather(front_, 0, 5, 1));
  front_.post.mail.clear();
  front_.enter(start(6));
  front_.say(WaveId{6}, 1, all_);
  EXPECT_FALSE(gather(front_, 0, 6, 1));
  back_.ranks[0]->repeat();
  deliver(back_, front_);
  deliver(front_, back_);
  EXPECT_TRUE(gather(back_, 0, 5, 1));
  EXPECT_TRUE(gather(back_, 1, 5, 1));
}

TEST_F(TreeExchangeTest, a_wave_of_one_node_needs_no_messages) {
  front_.enter({.wave = WaveId{5}, .ranks = {0, 1}});
  front_.say(WaveId{5}, 1, {0, 1});
  EXPECT_TRUE(gather(front_, 0, 5, 1));
  EXPECT_TRUE(gather(front_, 1, 5, 1));
  EXPECT_TRUE(front_.post.mail.empty());
}

}  // namespace
}  // namespace trireme::engine
