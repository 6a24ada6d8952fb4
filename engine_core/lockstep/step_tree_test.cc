#include "engine_core/lockstep/step_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

namespace trireme::engine {
namespace {

constexpr WaveId kWave{7};

StepSummary saying(uint64_t sequence) {
  return summary_of({.has_work = true, .pause = {sequence, PauseMode::kNone}});
}

// Nodes that step as fast as messages come, over links that lose, repeat and reorder.
class Forest {
 public:
  Forest(uint32_t nodes, uint32_t seed) : random_(seed) {
    for (uint32_t i = 0; i < nodes; ++i) trees_.emplace_back(kWave, i, nodes);
    steps_.resize(nodes, 0);
    done_.resize(nodes, 0);
  }

  // Until all have the result of `last`; false: nothing happens any more.
  bool run(uint64_t last, uint32_t loss_percent) {
    last_ = last;
    for (uint32_t i = 0; i < trees_.size(); ++i) post(i);
    for (int quiet = 0; quiet < 3;) {
      if (std::count(done_.begin(), done_.end(), last) == std::ssize(done_)) return true;
      if (mail_.empty()) {
        for (StepTree& tree : trees_) tree.repeat();
        for (uint32_t i = 0; i < trees_.size(); ++i) collect(i);
        quiet = mail_.empty() ? quiet + 1 : 0;
        continue;
      }
      deliver_one(loss_percent);
    }
    return false;
  }

  uint64_t messages = 0;

 private:
  struct Mail {
    uint32_t from;
    StepTree::Send send;
  };

  void deliver_one(uint32_t loss_percent) {
    const std::size_t pick = random_() % std::min<std::size_t>(mail_.size(), 5);
    const Mail mail = mail_[pick];
    if (random_() % 10 != 0) mail_.erase(mail_.begin() + static_cast<std::ptrdiff_t>(pick));
    if (random_() % 100 < loss_percent) return;
    trees_[mail.send.node].on_message(mail.from, mail.send.message);
    collect(mail.send.node);
    take_result(mail.send.node);
  }
  void post(uint32_t node) {
    const uint64_t step = ++steps_[node];
    trees_[node].post(step, saying(step * 10'000 + node));
    collect(node);
    take_result(node);
  }
  void collect(uint32_t node) {
    for (StepTree::Send& send : trees_[node].take_sends()) {
      ++messages;
      mail_.push_back({node, send});
    }
  }
  void take_result(uint32_t node) {
    const auto all = trees_[node].result(steps_[node]);
    if (!all) return;
    ASSERT_EQ(all->pause.sequence, steps_[node] * 10'000 + trees_.size() - 1);
    done_[node] = steps_[node];
    if (steps_[node] < last_) post(node);
  }

  std::mt19937 random_;
  std::vector<StepTree> trees_;
  std::vector<uint64_t> steps_;  // Posted.
  std::vector<uint64_t> done_;   // With a result.
  uint64_t last_ = 0;
  std::deque<Mail> mail_;
};

TEST(StepTree, one_node_has_the_result_at_once) {
  StepTree tree(kWave, 0, 1);
  tree.post(1, saying(3));
  EXPECT_EQ(tree.result(1), saying(3));
  EXPECT_TRUE(tree.take_sends().empty());
}

TEST(StepTree, two_nodes_take_a_message_each_way) {
  StepTree root(kWave, 0, 2);
  StepTree child(kWave, 1, 2);
  root.post(1, saying(3));
  EXPECT_EQ(root.awaited(), std::vector<uint32_t>{1});
  child.post(1, saying(5));
  EXPECT_EQ(child.awaited(), std::vector<uint32_t>{0});
  const auto up = child.take_sends();
  ASSERT_EQ(up.size(), 1u);
  root.on_message(1, up[0].message);
  EXPECT_EQ(root.result(1), saying(5));
  const auto down = root.take_sends();
  ASSERT_EQ(down.size(), 1u);
  child.on_message(0, down[0].message);
  EXPECT_EQ(child.result(1), saying(5));
  EXPECT_TRUE(child.awaited().empty());
}

TEST(StepTree, messages_of_another_wave_or_a_stranger_change_nothing) {
  StepTree root(kWave, 0, 2);
  root.post(1, saying(3));
  root.on_message(1, {WaveId{6}, 1, false, saying(9)});
  root.on_message(5, {kWave, 1, false, saying(9)});
  root.on_message(1, {kWave, 1, true, saying(9)});
  EXPECT_FALSE(root.result(1));
}

TEST(StepTree, every_node_gets_every_result_whatever_the_links_do) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Forest forest(1 + seed % 90, seed);
    ASSERT_TRUE(forest.run(/*last=*/5, /*loss_percent=*/seed % 40));
  }
}

TEST(StepTree, messages_grow_with_the_number_of_nodes_and_no_faster) {
  Forest forest(1024, 1);
  ASSERT_TRUE(forest.run(/*last=*/3, /*loss_percent=*/0));
  EXPECT_LT(forest.messages, 5 * 2 * 1024u * 3 / 2)
      << "two a node and step, but for what is repeated";
}

}  // namespace
}  // namespace trireme::engine
