#include "common/zmq/remote_link.h"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <utility>

namespace trireme::zmq {
namespace {

static_assert(std::endian::native == std::endian::little, "the header goes as it lies in memory");

std::string identity_of(uint32_t index) { return absl::StrFormat("q%d", index); }

}  // namespace

StatusOr<RemoteLink> RemoteLink::bind(const Context& context, const std::string& endpoint,
                                      uint32_t peer_count, const SocketOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(Router router, Router::create(context, options));
  TRIREME_RETURN_IF_ERROR(router.bind(endpoint));
  return make(std::move(router), peer_count);
}

StatusOr<RemoteLink> RemoteLink::connect(const Context& context, const std::string& endpoint,
                                         uint32_t index, const SocketOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(Dealer dealer, Dealer::create(context, identity_of(index), options));
  TRIREME_RETURN_IF_ERROR(dealer.connect(endpoint));
  return make(std::move(dealer), 1);
}

StatusOr<RemoteLink> RemoteLink::make(AnySocket socket, uint32_t peer_count) {
  TRIREME_ASSIGN_OR_RETURN(Poller poller, Poller::create());
  RemoteLink link(std::make_unique<AnySocket>(std::move(socket)), std::move(poller), peer_count);
  TRIREME_RETURN_IF_ERROR(link.poller_.add(link.socket(), 0));
  return link;
}

Socket& RemoteLink::socket() const {
  return std::visit([](auto& socket) -> Socket& { return socket; }, *socket_);
}

std::string RemoteLink::endpoint() const { return socket().last_endpoint(); }

bool RemoteLink::try_send(uint32_t peer, const LinkHeader& header, Bytes record) {
  const std::array frames{Bytes(reinterpret_cast<const std::byte*>(&header), sizeof(header)),
                          record};
  const auto parts = std::span(frames).first(header.kind == LinkHeader::Kind::kRecord ? 2 : 1);
  if (auto* const router = std::get_if<Router>(socket_.get())) {
    return router->try_send(identity_of(peer), parts) == SendResult::kSent;
  }
  return std::get<Dealer>(*socket_).try_send(parts) == SendResult::kSent;
}

std::optional<uint32_t> RemoteLink::peer_of(const Message& message) const {
  if (std::holds_alternative<Dealer>(*socket_)) return 0;
  const std::string_view name = message.peer();
  uint32_t peer = 0;
  if (!name.starts_with('q')) return std::nullopt;
  const auto [end, code] = std::from_chars(name.data() + 1, name.data() + name.size(), peer);
  const bool is_number = code == std::errc() && end == name.data() + name.size();
  return is_number && peer < peer_count_ ? std::optional(peer) : std::nullopt;
}

std::optional<RemoteLink::Incoming> RemoteLink::try_receive(Message& message) {
  while (socket().try_receive(message)) {
    const auto peer = peer_of(message);
    LinkHeader header;
    if (peer && message.frame(0).size() == sizeof(header)) {
      std::memcpy(&header, message.frame(0).data(), sizeof(header));
      const std::size_t frames = header.kind == LinkHeader::Kind::kRecord ? 2 : 1;
      if (header.magic == LinkHeader::kMagic && message.frame_count() == frames) {
        return Incoming{*peer, header, frames == 2 ? message.frame(1) : Bytes()};
      }
    }
    ++ignored_total_;
  }
  return std::nullopt;
}

void RemoteLink::wait(Deadline deadline) {
  [[maybe_unused]] const auto ready = poller_.wait(deadline);
}

}  // namespace trireme::zmq
