// The ports of the front node, taken or checked before anything starts.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"
#include "common/unique_fd.h"

namespace trireme::api {

struct ListenSocket {
  UniqueFd fd;           // Listening, close-on-exec.
  std::string address;   // "0.0.0.0:8000", "[::1]:8000"
  std::string reach_at;  // Where a client on this node finds it: "127.0.0.1:8000"
};

// --host and --port; an empty host is 0.0.0.0, port 0 takes a free one.
[[nodiscard]] StatusOr<ListenSocket> listen_on(const std::string& host, uint16_t port);

// Is the coordinator's port free now, and the address one of this node's? The error names the flag.
[[nodiscard]] Status check_control_port(const std::string& host, uint16_t port);

}  // namespace trireme::api
