#include "common/net_address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "common/unique_fd.h"

namespace trireme {
namespace {

TEST(NetAddress, loopback_sees_us_at_loopback) {
  const auto address = address_towards("127.0.0.1");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "127.0.0.1");
}

TEST(NetAddress, brackets_around_an_address_are_taken_off) {
  EXPECT_TRUE(resolve("[::1]", "9").ok());
  EXPECT_EQ(resolve("no such host", "9").status().code(), StatusCode::kInvalidArgument);
}

TEST(NetAddress, a_socket_tells_its_port) {
  const auto found = resolve("127.0.0.1", "0");
  ASSERT_TRUE(found.ok());
  const UniqueFd fd(::socket((*found)->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(fd.get(), (*found)->ai_addr, (*found)->ai_addrlen), 0);
  const auto own = own_end_of(fd.get());
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->host, "127.0.0.1");
  EXPECT_NE(own->port, 0);
}

}  // namespace
}  // namespace trireme
