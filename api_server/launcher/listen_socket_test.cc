// Tests of taking and checking ports, on loopback.
#include "api_server/launcher/listen_socket.h"

#include <gtest/gtest.h>

#include <charconv>

namespace trireme::api {
namespace {

uint16_t port_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  uint16_t port = 0;
  std::from_chars(address.data() + colon + 1, address.data() + address.size(), port);
  return port;
}

TEST(ListenSocket, port_zero_takes_a_free_one_and_says_which) {
  const auto socket = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_NE(port_of(socket->address), 0);
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
  const uint16_t port = port_of(first->address);
  const std::string taken = std::to_string(port) + " on 127.0.0.1 is taken";
  EXPECT_NE(listen_on("127.0.0.1", port).status().message().find("--port " + taken),
            std::string_view::npos);
  EXPECT_NE(
      check_control_port("127.0.0.1", port).message().find("--data-parallel-rpc-port " + taken),
      std::string_view::npos);
}

TEST(ListenSocket, an_address_of_another_node_is_refused) {
  EXPECT_EQ(check_control_port("192.0.2.1", 5).message(),
            "--data-parallel-address 192.0.2.1 is not an address of this node");
}

TEST(ListenSocket, a_free_control_port_stays_free) {
  uint16_t port = 0;
  {
    const auto socket = listen_on("127.0.0.1", 0);
    ASSERT_TRUE(socket.ok());
    port = port_of(socket->address);
  }
  EXPECT_TRUE(check_control_port("127.0.0.1", port).ok());
  EXPECT_TRUE(check_control_port("127.0.0.1", port).ok());
}

}  // namespace
}  // namespace trireme::api
