#include "common/zmq/link_safety.h"

#include <arpa/inet.h>

#include <string>

#include "common/zmq/cluster_key.h"

namespace trireme::zmq {
namespace {

Status refuse(const char* verb, std::string_view address) {
  return error(
      StatusCode::kInvalidArgument,
      "%s %s goes beyond this machine and there is no cluster key. Type `trireme key new > "
      "cluster.key; chmod 600 cluster.key` once and give every node that file "
      "(--cluster-key-file, ~/.config/trireme/cluster.key) or its line in %s; or pass "
      "--insecure-cluster on every node to talk in clear",
      verb, address, kClusterKeyVariable);
}

bool is_safe(std::string_view address, bool has_key, bool insecure) {
  return has_key || insecure || is_loopback(address);
}

}  // namespace

std::string_view host_of(std::string_view address) {
  if (const auto scheme = address.find("://"); scheme != address.npos) {
    address.remove_prefix(scheme + 3);
  }
  if (address.starts_with('[')) return address.substr(1, address.find(']') - 1);
  const auto colon = address.find(':');
  // Two colons without brackets: an IPv6 address without a port.
  if (colon == address.npos || address.find(':', colon + 1) != address.npos) return address;
  return address.substr(0, colon);
}

bool is_loopback(std::string_view address) {
  if (address.starts_with("inproc://") || address.starts_with("ipc://")) return true;
  const std::string host(host_of(address));
  if (host == "localhost" || host == "lo") return true;
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return ::inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Status check_bind_is_safe(std::string_view address, bool has_key, bool insecure) {
  return is_safe(address, has_key, insecure) ? absl::OkStatus() : refuse("listening at", address);
}

Status check_connect_is_safe(std::string_view address, bool has_key, bool insecure) {
  return is_safe(address, has_key, insecure) ? absl::OkStatus() : refuse("connecting to", address);
}

}  // namespace trireme::zmq
