// Tests of what a command line says about the cluster's shape.
#include "proto/member/cluster_shape.h"

#include <gtest/gtest.h>

namespace trireme::member {
namespace {

ServeOptions cluster_of(uint32_t size) {
  ServeOptions options;
  options.parallel.data_parallel_size = size;
  options.parallel.data_parallel_address = "10.0.0.1";
  options.parallel.data_parallel_rpc_port = 13345;
  return options;
}

TEST(ClusterShape, all_ranks_are_local_unless_said_otherwise) {
  const ServeOptions options = cluster_of(4);
  EXPECT_EQ(local_ranks(options), (RankRange{0, 4}));
  EXPECT_TRUE(is_one_node(options));
  EXPECT_EQ(control_endpoint(options), "tcp://127.0.0.1:13345");
}

TEST(ClusterShape, without_its_flag_the_control_port_is_one_that_all_nodes_know) {
  ServeOptions options = cluster_of(4);
  options.parallel.data_parallel_rpc_port.reset();
  options.parallel.headless = true;
  EXPECT_EQ(control_endpoint(options), "tcp://10.0.0.1:29550");
}

TEST(ClusterShape, the_front_node_of_two_is_found_at_its_address) {
  ServeOptions options = cluster_of(4);
  options.parallel.data_parallel_size_local = 2;
  options.parallel.data_parallel_start_rank = 2;
  EXPECT_EQ(local_ranks(options), (RankRange{2, 2}));
  EXPECT_EQ(served_ranks(options), (RankRange{0, 4}));
  EXPECT_TRUE(starts_coordinator(options));
  EXPECT_EQ(control_endpoint(options), "tcp://10.0.0.1:13345");
}

TEST(ClusterShape, a_headless_node_never_looks_at_loopback) {
  ServeOptions options = cluster_of(2);
  options.parallel.headless = true;
  EXPECT_EQ(control_endpoint(options), "tcp://10.0.0.1:13345");
}

TEST(ClusterShape, a_front_without_engines_serves_all) {
  ServeOptions options = cluster_of(2);
  options.parallel.data_parallel_size_local = 0;
  EXPECT_EQ(local_ranks(options), (RankRange{0, 0}));
  EXPECT_EQ(served_ranks(options), (RankRange{0, 2}));
  EXPECT_FALSE(is_one_node(options));
}

TEST(ClusterShape, with_a_front_on_every_node_the_first_has_the_coordinator) {
  ServeOptions options = cluster_of(4);
  options.parallel.load_balancing = LoadBalancing::kHybrid;
  options.parallel.data_parallel_size_local = 2;
  options.parallel.data_parallel_start_rank = 2;
  EXPECT_EQ(served_ranks(options), (RankRange{2, 2}));
  EXPECT_FALSE(starts_coordinator(options));
  EXPECT_EQ(first_api_server_index(options), 2 * kApiServersPerNodeMax);
  options.parallel.data_parallel_start_rank = 0;
  EXPECT_TRUE(starts_coordinator(options));
}

TEST(ClusterShape, one_rank_per_node_is_external_balancing) {
  ServeOptions options = cluster_of(4);
  options.parallel.load_balancing = LoadBalancing::kExternal;
  options.parallel.data_parallel_rank = 3;
  EXPECT_EQ(local_ranks(options), (RankRange{3, 1}));
  EXPECT_FALSE(starts_coordinator(options));
}

TEST(ClusterShape, ipv6_addresses_get_brackets) {
  EXPECT_EQ(tcp_endpoint("fd00::1", 5), "tcp://[fd00::1]:5");
  EXPECT_EQ(tcp_endpoint("[fd00::1]", 5), "tcp://[fd00::1]:5");
}

}  // namespace
}  // namespace trireme::member
