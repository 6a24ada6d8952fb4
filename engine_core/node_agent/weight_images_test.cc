// Who shares the weights with whom: by place in the model and NUMA node.
#include "engine_core/node_agent/weight_images.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

using Images = std::vector<uint32_t>;
const worker::MachineCores kOneNode{.allowed = {0, 1, 2, 3}, .nodes = {0, 0, 0, 0}};
const worker::MachineCores kTwoNodes{.allowed = {0, 1, 2, 3}, .nodes = {0, 0, 1, 1}};

ServeOptions ranks(uint32_t data_parallel, uint32_t tensor_parallel) {
  ServeOptions options;
  options.parallel.data_parallel_size = data_parallel;
  options.parallel.data_parallel_size_local = data_parallel;
  options.parallel.tensor_parallel_size = tensor_parallel;
  return options;
}

TEST(WeightImages, data_parallel_ranks_share_each_tensor_parallel_part) {
  EXPECT_EQ(WeightImages::plan(ranks(3, 1), kOneNode), (Images{0, 0, 0}));
  EXPECT_EQ(WeightImages::plan(ranks(2, 2), kOneNode), (Images{0, 1, 0, 1}));
}

TEST(WeightImages, ranks_on_other_numa_nodes_have_their_own) {
  EXPECT_EQ(WeightImages::plan(ranks(2, 1), kTwoNodes), (Images{0, 1}));
  EXPECT_EQ(WeightImages::plan(ranks(4, 1), kTwoNodes), (Images{0, 0, 1, 1}));
  ServeOptions unbound = ranks(2, 1);
  unbound.worker.cpu_threads_bind = "nobind";
  EXPECT_EQ(WeightImages::plan(unbound, kTwoNodes), (Images{0, 0})) << "they run on both";
}

TEST(WeightImages, rank_is_handed_those_of_its_own_workers) {
  const WeightImages images = WeightImages::create(ranks(2, 2), kOneNode);
  process::ChildOptions first, second;
  images.hand_to(first, 0);
  images.hand_to(second, 1);
  ASSERT_EQ(first.inherited_fds.size(), 2u);
  EXPECT_NE(first.inherited_fds[0], first.inherited_fds[1]);
  EXPECT_EQ(first.inherited_fds, second.inherited_fds);
  EXPECT_EQ(first.argv, (std::vector<std::string>{"--internal-weight-images",
                                                  absl::StrFormat("%d,%d", first.inherited_fds[0],
                                                                  first.inherited_fds[1])}));
}

TEST(WeightImages, executors_without_worker_processes_have_none) {
  ServeOptions options = ranks(2, 1);
  options.parallel.executor = Executor::kSim;
  process::ChildOptions child;
  WeightImages::create(options, kOneNode).hand_to(child, 0);
  EXPECT_TRUE(child.argv.empty() && child.inherited_fds.empty());
}

}  // namespace
}  // namespace trireme::engine
