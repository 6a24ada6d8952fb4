// The rule who may talk in clear: only what stays on this machine, unless the user says otherwise.
//
// An address is an endpoint ("tcp://10.0.0.1:13345", "inproc://x", "ipc://@x") or a bare host.
// "127.x.x.x", "::1", "localhost", "lo", inproc and ipc stay on the machine; every other name might
// leave it, "*" and host names included.
#pragma once

#include <string_view>

#include "common/status.h"

namespace trireme::zmq {

[[nodiscard]] bool is_loopback(std::string_view address);
// "tcp://[::1]:80" and "[::1]:80" give "::1"; an address without a port is the host.
[[nodiscard]] std::string_view host_of(std::string_view address);

// Refuses an address beyond loopback when there is neither a key nor --insecure-cluster, and says
// what to type.
[[nodiscard]] Status check_bind_is_safe(std::string_view address, bool has_key, bool insecure);
[[nodiscard]] Status check_connect_is_safe(std::string_view address, bool has_key, bool insecure);

}  // namespace trireme::zmq
