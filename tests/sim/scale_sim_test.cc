// Goal: what a lockstep group costs grows with its ranks as it must, and no faster: rounds with the
// depth of the tree, messages with the number of ranks or nodes, the bytes of a start with its
// square. Method: groups of 32 and 64 ranks in virtual time (trireme simulate --scale has the
// large ones).
#include <gtest/gtest.h>

#include <map>

#include "cli/simulate/scale_cluster.h"

namespace trireme::sim {
namespace {

constexpr uint64_t kNetwork = 100;  // Microseconds, one way.
constexpr uint64_t kNode = 1;

ScaleReport report_of(uint32_t ranks, uint32_t ranks_per_node) {
  return simulate_scale({.rank_count = ranks,
                         .ranks_per_node = ranks_per_node,
                         .network_us = kNetwork,
                         .node_us = kNode});
}

TEST(ScaleSimulation, a_start_is_one_round_to_the_coordinator_and_one_message_a_rank) {
  const ScaleReport report = report_of(64, 8);
  EXPECT_EQ(report.node_count, 8u);
  EXPECT_EQ(report.start_us, 2 * kNetwork);
  EXPECT_EQ(report.start.messages_out, 64u);
  EXPECT_EQ(report.start.bytes_out, 64 * report.start_bytes);
  EXPECT_LE(report.start.messages_in, 2 * 64u) << "who has work says so, and all that they are in";
}

TEST(ScaleSimulation, all_agree_on_a_step_in_two_rounds_over_the_depth_of_the_tree) {
  const std::map<uint32_t, uint32_t> depth_by_ranks_per_node = {{1, 2}, {2, 2}, {8, 1}, {64, 0}};
  for (const auto& [ranks_per_node, depth] : depth_by_ranks_per_node) {
    SCOPED_TRACE(testing::Message() << ranks_per_node << " ranks a node");
    const ScaleReport report = report_of(64, ranks_per_node);
    EXPECT_EQ(report.depth, depth);
    EXPECT_LE(report.agreement_us, 2 * report.depth * kNetwork + 2 * kNode);
    EXPECT_EQ(report.agreement_messages, 2u * (report.node_count - 1));
  }
}

TEST(ScaleSimulation, a_loss_is_known_to_all_and_stepped_over_in_as_many_rounds_as_a_start_takes) {
  const ScaleReport report = report_of(64, 8);
  EXPECT_EQ(report.view_us, 2 * kNetwork);
  EXPECT_LE(report.step_again_us, (2 + 2 * report.depth) * kNetwork + 2 * kNode);
  EXPECT_EQ(report.loss.messages_out, 64u + 63u) << "the view to all and the agent, and a start";
}

TEST(ScaleSimulation, a_start_tells_every_rank_of_every_rank) {
  const ScaleReport half = report_of(32, 8);
  const ScaleReport whole = report_of(64, 8);
  EXPECT_NEAR(static_cast<double>(whole.start_bytes) / static_cast<double>(half.start_bytes), 2.0,
              0.1);
  EXPECT_LT(whole.start_bytes, 64u * 100);
}

}  // namespace
}  // namespace trireme::sim
