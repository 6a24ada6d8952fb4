#include "engine_core/span/listeners.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "proto/member/cluster_shape.h"

namespace trireme::engine {
namespace {

constexpr int kBacklog = 8;

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

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

StatusOr<std::string> name_of(int socket, uint16_t& port) {
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
  port = static_cast<uint16_t>(std::stoi(service));
  return std::string(host);
}

StatusOr<Listener> listen_at(const std::string& address, const WorkerEdge& edge) {
  TRIREME_ASSIGN_OR_RETURN(const Addresses found, resolve(address, "0"));
  UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open() || ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return error(StatusCode::kUnavailable, "listen at %s: %s", address, std::strerror(errno));
  }
  uint16_t port = 0;
  TRIREME_ASSIGN_OR_RETURN(const std::string host, name_of(fd.get(), port));
  return Listener{.told = {edge.from, edge.to, member::tcp_endpoint(host, port)},
                  .fd = std::move(fd)};
}

}  // namespace

StatusOr<std::string> address_towards(const std::string& host) {
  // A datagram socket that is connected sends nothing, but knows its way.
  TRIREME_ASSIGN_OR_RETURN(const Addresses found, resolve(host, "9"));
  const UniqueFd fd(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open() || ::connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
    return error(StatusCode::kUnavailable, "--master-addr %s cannot be reached: %s", host,
                 std::strerror(errno));
  }
  uint16_t port = 0;
  return name_of(fd.get(), port);
}

StatusOr<std::vector<Listener>> make_listeners(const WorkerSpan& span, uint32_t place,
                                               const std::string& address) {
  std::vector<Listener> listeners;
  for (const WorkerEdge& edge : worker_edges(span)) {
    if (!is_remote(span, edge) || span.place_of(edge.to) != place) continue;
    TRIREME_ASSIGN_OR_RETURN(Listener listener, listen_at(address, edge));
    listeners.push_back(std::move(listener));
  }
  return listeners;
}

std::vector<wire::RankListener> told_of(const std::vector<Listener>& listeners) {
  std::vector<wire::RankListener> told;
  for (const Listener& listener : listeners) told.push_back(listener.told);
  return told;
}

}  // namespace trireme::engine
