#include "engine_core/lockstep/peer_links.h"

#include <bit>
#include <utility>

#include "common/log.h"
#include "engine_core/lockstep/step_tree.h"

namespace trireme::engine {

StatusOr<std::unique_ptr<PeerLinks>> PeerLinks::listen(const zmq::Context& context,
                                                       zmq::Poller& poller,
                                                       const std::string& address,
                                                       std::string identity, uint64_t first_token) {
  TRIREME_ASSIGN_OR_RETURN(zmq::Router router, zmq::Router::create(context));
  const bool is_ipv6 = address.find(':') != std::string::npos;
  TRIREME_RETURN_IF_ERROR(
      router.bind(absl::StrFormat(is_ipv6 ? "tcp://[%s]:0" : "tcp://%s:0", address)));
  std::unique_ptr<PeerLinks> links(
      new PeerLinks(context, poller, std::move(router), std::move(identity), first_token));
  TRIREME_RETURN_IF_ERROR(poller.add(links->router_, first_token));
  return links;
}

PeerLinks::PeerLinks(const zmq::Context& context, zmq::Poller& poller, zmq::Router router,
                     std::string identity, uint64_t first_token)
    : context_(context),
      poller_(poller),
      router_(std::move(router)),
      endpoint_(router_.last_endpoint()),
      identity_(std::move(identity)),
      first_token_(first_token) {}

void PeerLinks::begin_wave(WaveId wave, uint32_t own_node,
                           const std::vector<std::string>& addresses) {
  before_ = std::move(current_);
  current_ = next_.wave == wave ? std::move(next_) : NodesBelow{};
  current_.wave = wave;
  next_ = {};
  if (own_node == 0) return;
  node_above_ = StepTree::parent_of(own_node);
  if (above_ != nullptr && above_address_ == addresses[node_above_]) return;
  if (above_ != nullptr) poller_.remove(first_token_ + 1);
  above_.reset();
  above_address_ = addresses[node_above_];
  auto dealer = zmq::Dealer::create(context_, absl::StrFormat("%s/%u", identity_, ++connections_));
  Status status = dealer.status();
  if (status.ok()) {
    above_ = std::make_unique<zmq::Dealer>(*std::move(dealer));
    status = above_->connect(above_address_);
  }
  if (status.ok()) status = poller_.add(*above_, first_token_ + 1);
  if (status.ok()) return;
  above_.reset();
  log::error("lockstep_peer_not_reached",
             {{"address", above_address_}, {"reason", std::string(status.message())}});
}

void PeerLinks::send(uint32_t node, const wire::StepAgreement& message) {
  buffer_.clear();
  wire::pack(message, buffer_);
  if (!message.is_down) {
    if (above_ != nullptr) (void)above_->try_send(zmq::Bytes(buffer_));
  } else {
    const auto& below = message.wave == before_.wave ? before_.identities : current_.identities;
    if (node < below.size() && !below[node].empty()) {
      (void)router_.try_send(below[node], zmq::Bytes(buffer_));
    }
  }
}

void PeerLinks::note_below(const wire::StepAgreement& message, std::string_view identity) {
  if (message.wave > current_.wave && message.wave > next_.wave) next_ = {.wave = message.wave};
  for (NodesBelow* const known : {&current_, &before_, &next_}) {
    if (known->wave != message.wave) continue;
    if (message.from_node >= known->identities.size()) {
      known->identities.resize(message.from_node + 1);
    }
    known->identities[message.from_node] = identity;
    return;
  }
}

std::optional<wire::StepAgreement> PeerLinks::receive() {
  while (above_ != nullptr && above_->try_receive(message_)) {
    if (auto known = take(message_); known && known->is_down) return known;
  }
  while (router_.try_receive(message_)) {
    auto known = take(message_);
    if (!known || known->is_down || known->from_node >= kNodesMax) continue;
    note_below(*known, message_.peer());
    return known;
  }
  return std::nullopt;
}

std::optional<wire::StepAgreement> PeerLinks::take(const zmq::Message& message) {
  const auto known = message.frame_count() == 1
                         ? wire::unpack<wire::StepAgreement>(message.frame(0))
                         : error(StatusCode::kDataLoss, "not one frame");
  if (known.ok()) return *known;
  if (std::has_single_bit(++dropped_)) {
    log::warning("lockstep_message_dropped",
                 {{"total", dropped_}, {"reason", std::string(known.status().message())}});
  }
  return std::nullopt;
}

}  // namespace trireme::engine
