// Goal: every worker of a node knows its number there, and who is in its tensor-parallel group.
#include "common/options/local_workers.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

using Groups = std::vector<uint32_t>;

TEST(LocalWorkers, are_numbered_engine_by_engine) {
  ServeOptions options;
  EXPECT_EQ(local_workers(options, 0).count, 1u);
  options.parallel.data_parallel_size = 4;
  options.parallel.tensor_parallel_size = 2;
  EXPECT_EQ(local_workers(options, 0).count, 8u);
  options.parallel.data_parallel_size_local = 2;
  options.parallel.data_parallel_start_rank = 2;
  options.internal.engine_rank = 3;
  EXPECT_EQ(local_workers(options, 1).count, 4u);
  EXPECT_EQ(local_workers(options, 1).index, 3u);
}

TEST(LocalWorkers, stages_on_other_nodes_do_not_count) {
  ServeOptions options;
  options.parallel.pipeline_parallel_size = 2;
  options.parallel.node_count = 2;
  EXPECT_EQ(local_workers(options, 1).count, 1u);
  EXPECT_EQ(local_workers(options, 1).index, 0u);
}

TEST(LocalWorkers, group_is_a_stage_of_an_engine) {
  ServeOptions options;
  options.parallel = {
      .tensor_parallel_size = 2, .pipeline_parallel_size = 2, .data_parallel_size = 2};
  EXPECT_EQ(local_groups(options), (Groups{0, 0, 1, 1, 2, 2, 3, 3}));
}

TEST(LocalWorkers, stage_that_nodes_share_is_one_group_on_each) {
  ServeOptions options;
  options.parallel = {
      .tensor_parallel_size = 4, .pipeline_parallel_size = 3, .node_count = 2, .node_rank = 0};
  EXPECT_EQ(local_groups(options), (Groups{0, 0, 0, 0, 1, 1}));
  options.parallel.node_rank = 1;
  EXPECT_EQ(local_groups(options), (Groups{1, 1, 2, 2, 2, 2}));
}

TEST(LocalWorkers, launched_ranks_stand_alone) {
  ServeOptions options;
  options.parallel.tensor_parallel_size = 2;
  options.internal.node_worker_index = 1;
  options.internal.node_worker_count = 2;
  EXPECT_EQ(local_workers(options, 0).index, 1u);
  EXPECT_EQ(local_groups(options), (Groups{0, 1}));
}

}  // namespace
}  // namespace trireme
