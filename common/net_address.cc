#include "common/net_address.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "common/unique_fd.h"

namespace trireme {

StatusOr<Addresses> resolve(const std::string& host, const char* port) {
  std::string bare = host;
  if (bare.starts_with('[') && bare.ends_with(']')) bare = bare.substr(1, bare.size() - 2);
  const addrinfo hints{.ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(bare.c_str(), port, &hints, &found); code != 0) {
    return error(StatusCode::kInvalidArgument, "%s: %s", host, ::gai_strerror(code));
  }
  return Addresses(found, &::freeaddrinfo);
}

StatusOr<SocketAddress> own_end_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(socket, any, &size) != 0) {
    return error(StatusCode::kInternal, "getsockname: %s", std::strerror(errno));
  }
  char host[NI_MAXHOST];
  char service[NI_MAXSERV];
  const int code = ::getnameinfo(any, size, host, sizeof(host), service, sizeof(service),
                                 NI_NUMERICHOST | NI_NUMERICSERV);
  if (code != 0) return error(StatusCode::kInternal, "getnameinfo: %s", ::gai_strerror(code));
  return SocketAddress{.host = host, .port = static_cast<uint16_t>(std::stoi(service))};
}

StatusOr<std::string> address_towards(const std::string& host) {
  // A datagram socket that is connected sends nothing, but knows its way.
  TRIREME_ASSIGN_OR_RETURN(const Addresses found, resolve(host, "9"));
  const UniqueFd fd(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open() || ::connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
    return error(StatusCode::kUnavailable, "%s cannot be reached: %s", host, std::strerror(errno));
  }
  TRIREME_ASSIGN_OR_RETURN(SocketAddress own, own_end_of(fd.get()));
  return std::move(own.host);
}

}  // namespace trireme
