#include "worker/comm/remote_peer.h"

#include <bit>
#include <cstring>
#include <utility>

namespace trireme::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "the header goes as it lies in memory");

using Kind = RemoteHeader::Kind;

// A full stream, and some questions and answers.
constexpr int kSocketMessagesMax = 2 * kStreamMessagesMax;
// What the last transfer left is still to go out, but an end is not to be held up by the dead.
constexpr Duration kLinger = std::chrono::milliseconds(100);

zmq::Bytes bytes_of(const RemoteHeader& header) {
  return {reinterpret_cast<const std::byte*>(&header), sizeof(header)};
}

}  // namespace

zmq::SocketOptions RemotePeer::socket_options() {
  return {.send_messages_max = kSocketMessagesMax,
          .receive_messages_max = kSocketMessagesMax,
          .frame_bytes_max = static_cast<int64_t>(sizeof(RemoteHeader) + kMessageBytesMax),
          .linger = kLinger};
}

StatusOr<std::unique_ptr<RemotePeer>> RemotePeer::connect(const zmq::Context& context,
                                                          const Self& self, uint32_t place,
                                                          const ExpertAddress& address) {
  const std::string identity = absl::StrFormat("place %u %016x", self.place, self.life);
  TRIREME_ASSIGN_OR_RETURN(zmq::Dealer dealer,
                           zmq::Dealer::create(context, identity, socket_options()));
  TRIREME_RETURN_IF_ERROR(dealer.connect(address.endpoint));
  return std::unique_ptr<RemotePeer>(new RemotePeer(std::move(dealer), self, place, address));
}

void RemotePeer::enter_wave(uint64_t tag) {
  wave_ = tag;
  transfer_ = 0;
  is_there_ = false;
  has_left_ = false;
  out_ = {};
  in_ = {};
  offset_ = 0;
  drop_pieces();
  to_receive_ = {};
  for (zmq::SharedFrame& frame : sent_) frame.clear();
  for (const auto& message : arrived_) {
    if (message != nullptr) message->clear();
  }
  say(Kind::kAsk);
}

RemoteHeader RemotePeer::header_of(Kind kind, uint64_t sequence) const {
  return {.kind = kind,
          .from_place = self_.place,
          .from_life = self_.life,
          .to_life = address_.life,
          .wave = wave_,
          .transfer = transfer_,
          .sequence = sequence,
          .taken = in_.taken()};
}

// A full queue means that there is no connection; who waits asks again.
void RemotePeer::say(Kind kind) {
  if (dealer_.try_send(bytes_of(header_of(kind, in_.arrived()))) == zmq::SendResult::kSent) {
    in_.mark_reported();
  }
}

void RemotePeer::report() {
  if (in_.has_unreported()) say(Kind::kTaken);
}

void RemotePeer::ask_if_silent(Instant at) {
  if (std::exchange(was_heard_, false)) {
    ask_after_ = kAskAfterMin;
    ask_at_ = at + ask_after_;
    return;
  }
  if (at < ask_at_) return;
  say(Kind::kAsk);
  ask_after_ = std::min(2 * ask_after_, kAskAfterMax);
  ask_at_ = at + ask_after_;
}

bool RemotePeer::on_message(const RemoteHeader& header, std::unique_ptr<zmq::Message>& message) {
  if (header.wave > wave_) return has_left_ = true;
  if (header.wave < wave_ || header.from_life != address_.life) return false;
  const uint64_t taken = out_.taken();
  if (!out_.on_taken(header.taken)) return false;
  for (uint64_t i = taken; i < out_.taken(); ++i) sent_[i % kStreamMessagesMax].clear();
  was_heard_ = was_heard_ || out_.taken() > taken;
  is_there_ = true;
  switch (header.kind) {
    case Kind::kAsk:
      out_.on_wanted(header.sequence);
      if (!out_.has_unsent()) say(Kind::kTaken);
      return true;
    case Kind::kTaken:
      return true;
    case Kind::kRecord:
      return keep(header.sequence, message);
  }
  return false;
}

bool RemotePeer::keep(uint64_t sequence, std::unique_ptr<zmq::Message>& message) {
  const TakingEnd::Verdict verdict = in_.on_message(sequence);
  if (verdict == TakingEnd::Verdict::kGap) say(Kind::kAsk);
  if (verdict != TakingEnd::Verdict::kNext) return verdict != TakingEnd::Verdict::kSeen;
  was_heard_ = true;
  std::swap(arrived_[sequence % kStreamMessagesMax], message);
  if (message == nullptr) message = std::make_unique<zmq::Message>();
  return true;
}

void RemotePeer::begin_sending(const OutgoingPieces& pieces, uint64_t transfer) {
  transfer_ = transfer;
  pieces_ = pieces;
  piece_ = 0;
  to_send_ = {};
  take_next_piece();
  was_heard_ = true;  // Silence begins here.
}

void RemotePeer::drop_pieces() {
  pieces_ = {};
  to_send_ = {};
}

void RemotePeer::take_next_piece() {
  while (to_send_.empty() && piece_ < pieces_.pieces.size()) to_send_ = pieces_.pieces[piece_++];
}

void RemotePeer::fill() {
  std::size_t size = to_send_.size();
  for (std::size_t i = piece_; i < pieces_.pieces.size(); ++i) size += pieces_.pieces[i].size();
  size = std::min(size, kMessageBytesMax);
  const RemoteHeader header = header_of(Kind::kRecord, out_.filled());
  std::span<std::byte> frame =
      sent_[out_.filled() % kStreamMessagesMax].renew(sizeof(header) + size);
  std::memcpy(frame.data(), &header, sizeof(header));
  frame = frame.subspan(sizeof(header));
  while (!frame.empty()) {
    const std::size_t count = std::min(frame.size(), to_send_.size());
    std::memcpy(frame.data(), to_send_.data(), count);
    frame = frame.subspan(count);
    to_send_ = to_send_.subspan(count);
    take_next_piece();
  }
  out_.mark_filled();
  in_.mark_reported();
}

bool RemotePeer::push() {
  if (!is_there_) return false;
  bool has_moved = false;
  while (true) {
    if (!out_.has_unsent()) {
      if (to_send_.empty() || !out_.has_room()) return has_moved;
      fill();
    }
    const zmq::SharedFrame& frame = sent_[out_.next() % kStreamMessagesMax];
    if (dealer_.try_send(frame) != zmq::SendResult::kSent) return has_moved;
    out_.mark_sent();
    has_moved = true;
  }
}

Status RemotePeer::begin_receiving(uint32_t member, IncomingPieces& incoming) {
  TRIREME_ASSIGN_OR_RETURN(to_receive_, incoming.next_piece(member));
  return absl::OkStatus();
}

StatusOr<std::span<const std::byte>> RemotePeer::bytes_in(const zmq::Message& message) const {
  RemoteHeader header;
  std::memcpy(&header, message.frame(0).data(), sizeof(header));
  if (header.transfer == transfer_) return message.frame(0).subspan(sizeof(header));
  return error(StatusCode::kDataLoss,
               "wave %u: place %u is at its transfer %u, place %u at %u: they do not run the same "
               "layers",
               wave_ - 1, place_, header.transfer, self_.place, transfer_);
}

StatusOr<bool> RemotePeer::receive(uint32_t member, IncomingPieces& incoming) {
  bool has_moved = false;
  while (!to_receive_.empty() && in_.has_message()) {
    zmq::Message& message = *arrived_[in_.taken() % kStreamMessagesMax];
    TRIREME_ASSIGN_OR_RETURN(const auto all, bytes_in(message));
    std::span<const std::byte> left = all.subspan(offset_);
    const std::size_t count = std::min(left.size(), to_receive_.size());
    std::memcpy(to_receive_.data(), left.data(), count);
    offset_ += count;
    to_receive_ = to_receive_.subspan(count);
    has_moved = true;
    if (offset_ == all.size()) {
      message.clear();
      offset_ = 0;
      in_.take();
    }
    if (!to_receive_.empty()) continue;
    TRIREME_RETURN_IF_ERROR(begin_receiving(member, incoming));
    if (to_receive_.empty() && offset_ != 0) {
      return error(StatusCode::kDataLoss, "wave %u: place %u sends more than is due", wave_ - 1,
                   place_);
    }
  }
  if (in_.must_report()) report();
  return has_moved;
}

}  // namespace trireme::worker
