#include "api_server/launcher/listen_socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace trireme::api {
namespace {

struct Bound {
  UniqueFd fd;
  int error_number = 0;
  std::string lookup_error;
};

Bound bind_to(const std::string& host, uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return {.lookup_error = ::gai_strerror(code)};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  Bound bound{
      .fd = UniqueFd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, found->ai_protocol))};
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

Status bind_error(const Bound& bound, const std::string& host, uint16_t port, const char* host_flag,
                  const char* port_flag) {
  if (!bound.lookup_error.empty()) {
    return error(StatusCode::kInvalidArgument, "%s %s: %s", host_flag, host, bound.lookup_error);
  }
  if (bound.error_number == EADDRINUSE) {
    return error(StatusCode::kUnavailable,
                 "%s %u on %s is taken by another process; choose another port, or find it with: "
                 "ss -ltnp 'sport = :%u'",
                 port_flag, port, host, port);
  }
  if (bound.error_number == EADDRNOTAVAIL) {
    return error(StatusCode::kInvalidArgument, "%s %s is not an address of this node", host_flag,
                 host);
  }
  return error(StatusCode::kUnavailable, "%s %u on %s: %s", port_flag, port, host,
               std::strerror(bound.error_number));
}

}  // namespace

StatusOr<ListenSocket> listen_on(const std::string& host, uint16_t port) {
  const std::string name = host.empty() ? "0.0.0.0" : without_brackets(host);
  Bound bound = bind_to(name, port);
  if (bound.error_number != 0 || !bound.lookup_error.empty()) {
    return bind_error(bound, name, port, "--host", "--port");
  }
  if (::listen(bound.fd.get(), SOMAXCONN) != 0) {
    return error(StatusCode::kUnavailable, "--port %u: listen: %s", port, std::strerror(errno));
  }
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  char digits[NI_MAXHOST] = {}, service[NI_MAXSERV] = {};
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::getsockname(bound.fd.get(), generic, &size) != 0 ||
      ::getnameinfo(generic, size, digits, sizeof(digits), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return error(StatusCode::kInternal, "--port %u: cannot read the bound address", port);
  }
  const bool is_ipv6 = address.ss_family == AF_INET6;
  const std::string text(digits);
  const std::string reach = text == "0.0.0.0" ? "127.0.0.1" : text == "::" ? "::1" : text;
  return ListenSocket{.fd = std::move(bound.fd),
                      .address = is_ipv6 ? absl::StrFormat("[%s]:%s", text, service)
                                         : absl::StrFormat("%s:%s", text, service),
                      .reach_at = is_ipv6 ? absl::StrFormat("[%s]:%s", reach, service)
                                          : absl::StrFormat("%s:%s", reach, service)};
}

Status check_control_port(const std::string& host, uint16_t port) {
  const std::string name = without_brackets(host);
  const Bound bound = bind_to(name, port);
  if (bound.error_number == 0 && bound.lookup_error.empty()) return absl::OkStatus();
  return bind_error(bound, name, port, "--data-parallel-address", "--data-parallel-rpc-port");
}

}  // namespace trireme::api
