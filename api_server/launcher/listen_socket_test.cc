// Tests of taking and checking ports, on loopback.
#include "api_server/launcher/listen_socket.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

TEST(ListenSocket, port_zero_takes_a_free_one_and_says_which) {
  const auto socket = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_NE(socket->port, 0);
  EXPECT_EQ(socket->address, "127.0.0.1:" + std::to_string(socket->port));
  EXPECT_EQ(socket->reach_at, socket->address);
}

TEST(ListenSocket, no_host_is_every_address_and_reached_at_loopback) {
  const auto socket = listen_on("", 0);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->address.substr(0, 8), "0.0.0.0:");
  EXPECT_EQ(socket->reach_at.substr(0, 10), "127.0.0.1:");
}

TEST(ListenSocket, a_taken_port_is_named_with_its_flag) {
  const auto first = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(first.ok());
  const uint16_t port = first->port;
  const std::string taken = std::to_string(port) + " on 127.0.0.1 is taken";
  EXPECT_NE(listen_on("127.0.0.1", port).status().message().find("--port " + taken),
            std::string_view::npos);
  EXPECT_NE(listen_for_control("127.0.0.1", port)
                .status()
                .message()
                .find("--data-parallel-rpc-port " + taken),
            std::string_view::npos);
}

TEST(ListenSocket, an_address_of_another_node_is_refused) {
  EXPECT_EQ(listen_for_control("192.0.2.1", 5).status().message(),
            "--data-parallel-address 192.0.2.1 is not an address of this node");
}

TEST(ListenSocket, the_control_port_is_held_and_free_again_afterwards) {
  uint16_t port = 0;
  {
    const auto socket = listen_for_control("127.0.0.1", 0);
    ASSERT_TRUE(socket.ok()) << socket.status();
    port = socket->port;
    EXPECT_NE(port, 0);
    EXPECT_FALSE(listen_for_control("127.0.0.1", port).ok());
  }
  EXPECT_TRUE(listen_for_control("127.0.0.1", port).ok());
}

TEST(ListenSocket, a_name_for_the_control_port_means_its_ipv4_address) {
  const auto socket = listen_for_control("localhost", 0);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_TRUE(socket->address.starts_with("127.0.0.1:")) << socket->address;
}

}  // namespace
}  // namespace trireme::api
