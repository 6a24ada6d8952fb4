// Tests of which port the control channel gets, on loopback.
#include "api_server/launcher/control_port.h"

#include <gtest/gtest.h>

#include "common/zmq/context.h"

namespace trireme::api {
namespace {

const zmq::ContextOptions kNoKey;

TEST(ControlPort, a_node_by_itself_takes_any_and_another_beside_it_another) {
  const auto one = take_control_port({}, kNoKey);
  const auto other = take_control_port({}, kNoKey);
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_TRUE((*one)->address.starts_with("127.0.0.1:"));
  EXPECT_NE((*one)->port, (*other)->port);
}

TEST(ControlPort, a_given_one_is_taken_or_an_error) {
  const auto other = take_control_port({}, kNoKey);
  ASSERT_TRUE(other.ok());
  ServeOptions options;
  options.parallel.data_parallel_rpc_port = (*other)->port;
  const std::string message(take_control_port(options, kNoKey).status().message());
  EXPECT_TRUE(message.starts_with("--data-parallel-rpc-port " + std::to_string((*other)->port)))
      << message;
}

TEST(ControlPort, a_node_that_leaves_the_coordinator_to_another_takes_none) {
  ServeOptions options;
  options.parallel.data_parallel_size = 2;
  options.parallel.data_parallel_rank = 1;
  options.parallel.load_balancing = LoadBalancing::kExternal;
  const auto none = take_control_port(options, kNoKey);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->has_value());
}

TEST(ControlPort, one_that_other_nodes_could_not_find_is_refused) {
  ServeOptions options;
  options.parallel.data_parallel_size = 2;
  options.parallel.data_parallel_size_local = 1;
  options.parallel.data_parallel_rpc_port = 0;
  EXPECT_EQ(take_control_port(options, kNoKey).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::api
