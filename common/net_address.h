// Names and addresses of hosts, as sockets want and give them.
#pragma once

#include <netdb.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"

namespace trireme {

// At least one.
using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

// Of stream sockets. IPv6 may be in brackets. kInvalidArgument: there is no such host.
[[nodiscard]] StatusOr<Addresses> resolve(const std::string& host, const char* port);

// In numbers.
struct SocketAddress {
  std::string host;
  uint16_t port = 0;
};
[[nodiscard]] StatusOr<SocketAddress> own_end_of(int socket);

// Our own address, as those see us that are at `host`; a loopback address for loopback.
[[nodiscard]] StatusOr<std::string> address_towards(const std::string& host);

}  // namespace trireme
