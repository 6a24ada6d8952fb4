#include "engine_core/span/listeners.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "proto/member/cluster_shape.h"

namespace trireme::engine {
namespace {

constexpr int kBacklog = 8;

StatusOr<Listener> listen_at(const std::string& address, const WorkerEdge& edge) {
  TRIREME_ASSIGN_OR_RETURN(const Addresses found, resolve(address, "0"));
  UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open() || ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return error(StatusCode::kUnavailable, "listen at %s: %s", address, std::strerror(errno));
  }
  TRIREME_ASSIGN_OR_RETURN(const SocketAddress own, own_end_of(fd.get()));
  return Listener{.told = {edge.from, edge.to, member::tcp_endpoint(own.host, own.port)},
                  .fd = std::move(fd)};
}

}  // namespace

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
