#include "api_server/launcher/listen_socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace trireme::api {
namespace {

struct Bound {
  UniqueFd fd;
  int error_number = 0;
  std::string lookup_error;
};

Bound bind_to(const std::string& host, uint16_t port, int family) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return {.lookup_error = ::gai_strerror(code)};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  Bound bound{.fd = UniqueFd(::socket(found->ai_family, kType, found->ai_protocol))};
  const int on = 1;
  // Connections of an earlier life that linger in the kernel do not count as taken.
  (void)::setsockopt(bound.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool is_bound = ::bind(bound.fd.get(), found->ai_addr, found->ai_addrlen) == 0;
  if (!is_bound) bound.error_number = errno;
  return bound;
}

std::string without_brackets(const std::string& host) {
  const bool has_brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return has_brackets ? host.substr(1, host.size() - 2) : host;
}

struct Flags {
  const char* host;
  const char* port;
};

Status bind_error(const Bound& bound, const std::string& host, uint16_t port, const Flags& flags) {
  if (!bound.lookup_error.empty()) {
    return error(StatusCode::kInvalidArgument, "%s %s: %s", flags.host, host, bound.lookup_error);
  }
  if (bound.error_number == EADDRINUSE) {
    return error(StatusCode::kUnavailable,
                 "%s %u on %s is taken by another process; choose another port, or find it with: "
                 "ss -ltnp 'sport = :%u'",
                 flags.port, port, host, port);
  }
  if (bound.error_number == EADDRNOTAVAIL) {
    return error(StatusCode::kInvalidArgument, "%s %s is not an address of this node", flags.host,
                 host);
  }
  return error(StatusCode::kUnavailable, "%s %u on %s: %s", flags.port, port, host,
               std::strerror(bound.error_number));
}

StatusOr<ListenSocket> listening(Bound bound, const std::string& host, uint16_t port,
                                 const Flags& flags) {
  if (bound.error_number == 0 && bound.lookup_error.empty() &&
      ::listen(bound.fd.get(), SOMAXCONN) != 0) {
    bound.error_number = errno;
  }
  if (bound.error_number != 0 || !bound.lookup_error.empty()) {
    return bind_error(bound, host, port, flags);
  }
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  char digits[NI_MAXHOST] = {}, service[NI_MAXSERV] = {};
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(bound.fd.get(), generic, &size) != 0 ||
      ::getnameinfo(generic, size, digits, sizeof(digits), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return error(StatusCode::kInternal, "%s %u: cannot read the bound address", flags.port, port);
  }
  const bool is_ipv6 = address.ss_family == AF_INET6;
  const std::string text(digits);
  const std::string reach = text == "0.0.0.0" ? "127.0.0.1" : text == "::" ? "::1" : text;
  return ListenSocket{.fd = std::move(bound.fd),
                      .port = static_cast<uint16_t>(std::atoi(service)),
                      .address = is_ipv6 ? absl::StrFormat("[%s]:%s", text, service)
                                         : absl::StrFormat("%s:%s", text, service),
                      .reach_at = is_ipv6 ? absl::StrFormat("[%s]:%s", reach, service)
                                          : absl::StrFormat("%s:%s", reach, service)};
}

}  // namespace

StatusOr<ListenSocket> listen_on(const std::string& host, uint16_t port) {
  const std::string name = host.empty() ? "0.0.0.0" : without_brackets(host);
  return listening(bind_to(name, port, AF_UNSPEC), name, port, {"--host", "--port"});
}

StatusOr<ListenSocket> listen_for_control(const std::string& host, uint16_t port) {
  const std::string name = without_brackets(host);
  Bound bound = bind_to(name, port, AF_INET);
  if (!bound.lookup_error.empty()) bound = bind_to(name, port, AF_UNSPEC);
  return listening(std::move(bound), name, port,
                   {"--data-parallel-address", "--data-parallel-rpc-port"});
}

}  // namespace trireme::api
