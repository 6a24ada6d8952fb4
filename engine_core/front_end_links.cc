#include "engine_core/front_end_links.h"

#include <algorithm>
#include <bit>

#include "common/log.h"

namespace trireme::engine {
namespace {

constexpr int kMessagesPerTurnMax = 64;  // Of one front end, so that all get their turn.

bool is_front_end(const wire::Member& member) {
  return member.role == wire::Role::kApiServer && !member.ready.addresses.empty() &&
         (member.state == wire::MemberState::kReady ||
          member.state == wire::MemberState::kDraining);
}

}  // namespace

FrontEndLinks::FrontEndLinks(zmq::Context& context, zmq::Poller& poller, std::string identity)
    : context_(context), poller_(poller), identity_(std::move(identity)) {}

void FrontEndLinks::set_ready(const wire::EngineReady& ready) {
  ready_ = ready;
  is_ready_ = true;
}

void FrontEndLinks::on_view(const wire::View& view, EngineChannel& channel) {
  if (!is_ready_) return;
  for (uint32_t index = 0; index < links_.size(); ++index) {
    if (links_[index] == nullptr) continue;
    const auto is_same = [&](const wire::Member& member) {
      return is_front_end(member) && member.incarnation == links_[index]->incarnation;
    };
    if (std::ranges::none_of(view.members, is_same)) leave(index, "not in the view", channel);
  }
  for (const wire::Member& member : view.members) {
    const auto is_same = [&](const std::unique_ptr<Link>& link) {
      return link != nullptr && link->incarnation == member.incarnation;
    };
    if (is_front_end(member) && std::ranges::none_of(links_, is_same)) {
      join(member.index, member.incarnation, member.ready.addresses.front(), channel);
    }
  }
  beat(channel);
}

void FrontEndLinks::join(uint32_t index, Incarnation incarnation, const std::string& address,
                         EngineChannel& channel) {
  if (stuck_lives_.contains(incarnation)) return;
  const auto refuse = [&](const Status& why) {
    log::error("front_end_not_served",
               {{"index", index}, {"address", address}, {"reason", std::string(why.message())}});
  };
  const auto unused =
      std::ranges::find_if(links_, [](const auto& link) { return link == nullptr; });
  const auto id = static_cast<uint32_t>(unused - links_.begin());
  if (id >= kFrontEndsMax) {
    return refuse(error(StatusCode::kResourceExhausted, "more than %u front ends", kFrontEndsMax));
  }
  // Each connection has an identity of its own: what a broken one still sends is not mistaken.
  const uint64_t serial = next_serial_++;
  auto socket = zmq::Dealer::create(context_, absl::StrFormat("%s/%u", identity_, serial),
                                    {.tells_disconnects = true});
  if (!socket.ok()) return refuse(socket.status());
  auto link = std::make_unique<Link>();
  link->id = FrontEndId{id};
  link->index = index;
  link->serial = serial;
  link->incarnation = incarnation;
  link->address = address;
  link->socket = std::make_unique<zmq::Dealer>(std::move(*socket));
  if (const Status status = link->socket->connect(link->address); !status.ok()) {
    return refuse(status);
  }
  if (const Status status = poller_.add(*link->socket, kFirstToken + id); !status.ok()) {
    return refuse(status);
  }
  log::info("front_end_joined", {{"index", index}, {"address", link->address}});
  post(FrontEndJoined{link->id, link->serial}, channel);
  if (unused == links_.end()) {
    links_.push_back(std::move(link));
  } else {
    *unused = std::move(link);
  }
}

void FrontEndLinks::leave(uint32_t index, const char* why, EngineChannel& channel) {
  Link& link = *links_[index];
  log::info("front_end_left", {{"address", link.address}, {"reason", why}});
  poller_.remove(kFirstToken + index);
  backlog_count_ -= link.backlog.size();
  post(FrontEndLeft{link.id}, channel);
  links_[index].reset();
}

void FrontEndLinks::flush_events(EngineChannel& channel) {
  while (!events_.empty() && channel.input.push(std::move(events_.front()))) {
    events_.pop_front();
    channel.main_bell.ring();
  }
}

void FrontEndLinks::beat(EngineChannel& channel) {
  for (uint32_t index = 0; index < links_.size(); ++index) {
    if (links_[index] != nullptr && links_[index]->socket->take_disconnected()) {
      rejoin(index, channel);
    }
    if (links_[index] != nullptr) say_ready(*links_[index]);
  }
}

void FrontEndLinks::rejoin(uint32_t index, EngineChannel& channel) {
  const Link& broken = *links_[index];
  const auto [number, incarnation] = std::pair(broken.index, broken.incarnation);
  const std::string address = broken.address;
  leave(index, "its connection broke", channel);
  join(number, incarnation, address, channel);
}

void FrontEndLinks::say_ready(Link& link) {
  if (!link.backlog.empty()) return;
  buffer_.clear();
  ready_.connection = link.serial;
  ready_.outputs_sent = link.sequence;
  wire::pack(ready_, buffer_);
  (void)link.socket->try_send(zmq::Bytes(buffer_));  // Full: the next beat says it.
}

bool FrontEndLinks::read(EngineChannel& channel, int& work) {
  flush_events(channel);
  if (!events_.empty()) return false;
  int count = 0;
  bool has_room = true;
  for (const auto& link : links_) {
    if (link == nullptr) continue;
    for (int i = 0; i < kMessagesPerTurnMax && has_room; ++i) {
      has_room = !channel.input.is_full();
      if (!has_room || !link->socket->try_receive(message_)) break;
      ++count;
      const Status status = decode(link->id, message_, event_);
      if (status.ok()) {
        channel.input.push(std::move(event_));
      } else if (std::has_single_bit(++dropped_)) {
        log::warning("front_end_message_dropped", {{"address", link->address},
                                                   {"total", dropped_},
                                                   {"reason", std::string(status.message())}});
      }
    }
  }
  work += count;
  if (count > 0) channel.main_bell.ring();
  return has_room;
}

Status FrontEndLinks::decode(FrontEndId from, const zmq::Message& message, InputEvent& event) {
  if (message.frame_count() != 1) {
    return error(StatusCode::kDataLoss, "%u frames where 1 belongs", message.frame_count());
  }
  const zmq::Bytes bytes = message.frame(0);
  const auto kind = wire::peek_kind(bytes);
  if (!kind) return error(StatusCode::kDataLoss, "not one of our messages");
  switch (*kind) {
    case wire::MessageKind::kAddRequest: {
      TRIREME_ASSIGN_OR_RETURN(auto request, wire::unpack<wire::AddRequest>(bytes));
      event = RequestAdded{from, std::move(request)};
      return absl::OkStatus();
    }
    case wire::MessageKind::kAbortRequests: {
      TRIREME_ASSIGN_OR_RETURN(auto abort, wire::unpack<wire::AbortRequests>(bytes));
      event = RequestsAborted{from, std::move(abort.keys)};
      return absl::OkStatus();
    }
    case wire::MessageKind::kUtilityCall: {
      TRIREME_ASSIGN_OR_RETURN(auto call, wire::unpack<wire::UtilityCall>(bytes));
      event = UtilityCalled{from, std::move(call)};
      return absl::OkStatus();
    }
    default:
      return error(StatusCode::kDataLoss, "kind %u is not for engines",
                   static_cast<unsigned>(*kind));
  }
}

void FrontEndLinks::send(OutputMessage& message, EngineChannel& channel) {
  const uint32_t index = message.front_end.value;
  // It may have left, and another front end may have its number by now.
  if (index >= links_.size() || links_[index] == nullptr) return;
  if (links_[index]->serial != message.serial) return;
  buffer_.clear();
  if (message.reply) {
    wire::pack(*message.reply, buffer_);
  } else {
    message.outputs.connection = links_[index]->serial;
    message.outputs.sequence = ++links_[index]->sequence;
    wire::pack(message.outputs, buffer_);
  }
  put(*links_[index], buffer_);
  if (links_[index]->backlog.size() <= kBacklogMax) return;
  stuck_lives_.insert(links_[index]->incarnation);
  leave(index, "it takes nothing", channel);
}

void FrontEndLinks::put(Link& link, const wire::Buffer& bytes) {
  if (link.backlog.empty() && link.socket->try_send(zmq::Bytes(bytes)) == zmq::SendResult::kSent) {
    return;
  }
  link.backlog.push_back(bytes);
  ++backlog_count_;
}

int FrontEndLinks::retry() {
  int count = 0;
  for (const auto& link : links_) {
    if (link == nullptr) continue;
    while (!link->backlog.empty() &&
           link->socket->try_send_owned(link->backlog.front()) == zmq::SendResult::kSent) {
      link->backlog.pop_front();
      --backlog_count_;
      ++count;
    }
  }
  return count;
}

}  // namespace trireme::engine
