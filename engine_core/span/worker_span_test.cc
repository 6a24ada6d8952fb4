// Tests of who is where among the workers of one engine.
#include "engine_core/span/worker_span.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

ServeOptions options_of(uint32_t tp, uint32_t pp, uint32_t nodes) {
  ServeOptions options;
  options.parallel.tensor_parallel_size = tp;
  options.parallel.pipeline_parallel_size = pp;
  options.parallel.node_count = nodes;
  return options;
}

std::size_t remote_count(const WorkerSpan& span) {
  std::size_t count = 0;
  for (const WorkerEdge& edge : worker_edges(span)) count += is_remote(span, edge) ? 1U : 0U;
  return count;
}

TEST(WorkerSpan, nodes_hold_equal_parts_of_the_ranks_in_order) {
  const WorkerSpan span = worker_span(options_of(2, 2, 2));
  EXPECT_EQ(span.ranks_per_place, 2u);
  EXPECT_EQ(span.place_of(1), 0u);
  EXPECT_EQ(span.place_of(2), 1u);
  EXPECT_EQ(span.first_rank(1), 2u);
}

TEST(WorkerSpan, one_node_needs_pipes_between_stages_only) {
  EXPECT_EQ(worker_edges(worker_span(options_of(2, 2, 1))),
            (std::vector<WorkerEdge>{{0, 2, true}, {1, 3, true}}));
  EXPECT_TRUE(worker_edges(worker_span(options_of(4, 1, 1))).empty());
}

TEST(WorkerSpan, stages_on_nodes_of_their_own_meet_over_the_network_only_between_them) {
  const WorkerSpan span = worker_span(options_of(2, 2, 2));
  EXPECT_TRUE(span.is_stage_together(0) && span.is_stage_together(1));
  EXPECT_EQ(remote_count(span), 2u);
}

TEST(WorkerSpan, stage_over_two_nodes_has_a_pipe_for_every_ordered_pair) {
  const WorkerSpan span = worker_span(options_of(4, 1, 2));
  EXPECT_FALSE(span.is_stage_together(0));
  EXPECT_EQ(worker_edges(span).size(), 12u);
  EXPECT_EQ(remote_count(span), 8u);
}

TEST(WorkerSpan, every_engine_has_a_port_of_its_own) {
  ServeOptions options = options_of(2, 1, 2);
  options.parallel.master_address = "10.0.0.1";
  options.internal.engine_rank = 3;
  EXPECT_EQ(*rendezvous_endpoint(options), "tcp://10.0.0.1:29504");
  options.parallel.master_port = 65535;
  EXPECT_FALSE(rendezvous_endpoint(options).ok());
}

}  // namespace
}  // namespace trireme::engine
