// The ports of the front node, taken before anything starts.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::api {

struct ListenSocket {
  UniqueFd fd;  // Listening, close-on-exec, not blocking.
  uint16_t port = 0;
  std::string address;   // "0.0.0.0:8000", "[::1]:8000"
  std::string reach_at;  // Where a client on this node finds it: "127.0.0.1:8000"
};

// --host and --port; an empty host is 0.0.0.0, port 0 takes a free one.
[[nodiscard]] StatusOr<ListenSocket> listen_on(const std::string& host, uint16_t port);

// The coordinator's, at --data-parallel-address and --data-parallel-rpc-port; port 0 as above. A
// name that has an IPv4 address means that one, as it does for who connects.
[[nodiscard]] StatusOr<ListenSocket> listen_for_control(const std::string& host, uint16_t port);

}  // namespace trireme::api
