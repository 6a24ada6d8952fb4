#include "common/zmq/link_safety.h"

#include <gtest/gtest.h>

#include <string>

namespace trireme::zmq {
namespace {

TEST(LinkSafety, loopback_is_what_stays_on_this_machine) {
  for (const char* address :
       {"127.0.0.1", "127.8.9.1:80", "tcp://127.0.0.1:0", "tcp://[::1]:13345", "::1", "[::1]",
        "localhost:1", "tcp://lo:0", "inproc://a", "ipc://@a"}) {
    EXPECT_TRUE(is_loopback(address)) << address;
  }
  for (const char* address :
       {"", "*", "tcp://*:0", "0.0.0.0", "::", "[::]:80", "10.0.0.1", "node1", "128.0.0.1",
        "tcp://localhost.evil:1", "tcp://[fe80::1]:1", "127.0.0.1.evil", "["}) {
    EXPECT_FALSE(is_loopback(address)) << address;
  }
}

TEST(LinkSafety, going_beyond_loopback_takes_a_key_or_the_flag) {
  EXPECT_TRUE(check_bind_is_safe("tcp://127.0.0.1:0", false, false).ok());
  EXPECT_TRUE(check_bind_is_safe("tcp://*:13345", true, false).ok());
  EXPECT_TRUE(check_bind_is_safe("tcp://*:13345", false, true).ok());
  for (const Status& refused : {check_bind_is_safe("tcp://*:13345", false, false),
                                check_connect_is_safe("tcp://10.0.0.1:13345", false, false)}) {
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(refused.message().find("trireme key new"), std::string_view::npos);
    EXPECT_NE(refused.message().find("--insecure-cluster"), std::string_view::npos);
  }
}

}  // namespace
}  // namespace trireme::zmq
