// Goal: base urls are read as users write them, and refused by what is wrong with them.
#include "cli/bench/server_url.h"

#include <gtest/gtest.h>

namespace trireme::bench {
namespace {

std::string refused(std::string_view text) {
  return std::string(parse_server_url(text).status().message());
}

TEST(ServerUrl, host_port_and_prefix_are_told_apart) {
  const auto plain = parse_server_url("http://example.org");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->authority(), "example.org:80");
  const auto full = parse_server_url("http://[::1]:8123/a/b/");
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(full->host, "::1");
  EXPECT_EQ(full->port, 8123);
  EXPECT_EQ(full->text(), "http://[::1]:8123/a/b");
}

TEST(ServerUrl, refusals_name_the_part) {
  EXPECT_EQ(refused("localhost:8000"), "'localhost:8000' does not begin with http://");
  EXPECT_EQ(refused("http://a:x"), "'http://a:x': 'x' is not a port");
  EXPECT_EQ(refused("http://a:70000"), "'http://a:70000': '70000' is not a port");
  EXPECT_EQ(refused("http://:80"), "'http://:80' names no host");
  EXPECT_EQ(refused("http://[::1"), "'http://[::1': no ']' after the host");
  EXPECT_NE(refused("https://a").find("https is not spoken here"), std::string::npos);
}

}  // namespace
}  // namespace trireme::bench
