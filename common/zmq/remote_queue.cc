#include "common/zmq/remote_queue.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/random.h"
#include "common/zmq/remote_link.h"
#include "common/zmq/send_window.h"

namespace trireme::zmq {
namespace {

using Kind = LinkHeader::Kind;

// A Router does not say when a single peer's queue has room again.
constexpr Duration kRetryInterval = std::chrono::milliseconds(2);

SocketOptions socket_options(const RemoteQueueOptions& options) {
  return {.frame_bytes_max = static_cast<int64_t>(options.record_bytes_max)};
}

}  // namespace

struct RemoteSender::State {
  RemoteLink link;
  RemoteQueueOptions options;
  SendWindow window;
  uint64_t queue_id = entropy64() | 1;
  Message message{};
  Status broken = absl::OkStatus();
};

StatusOr<std::unique_ptr<RemoteSender>> RemoteSender::bind(const Context& context,
                                                           const std::string& endpoint,
                                                           uint32_t receiver_count,
                                                           const RemoteQueueOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(RemoteLink link, RemoteLink::bind(context, endpoint, receiver_count,
                                                             socket_options(options)));
  SendWindow window(receiver_count, options.window_records_max, options.window_bytes_max);
  return std::unique_ptr<RemoteSender>(new RemoteSender(
      std::unique_ptr<State>(new State{std::move(link), options, std::move(window)})));
}

StatusOr<std::unique_ptr<RemoteSender>> RemoteSender::connect(const Context& context,
                                                              const std::string& endpoint,
                                                              uint32_t index,
                                                              const RemoteQueueOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(RemoteLink link,
                           RemoteLink::connect(context, endpoint, index, socket_options(options)));
  SendWindow window(1, options.window_records_max, options.window_bytes_max);
  std::unique_ptr<RemoteSender> sender(new RemoteSender(
      std::unique_ptr<State>(new State{std::move(link), options, std::move(window)})));
  State& state = *sender->state_;
  // So that the receiver knows us, and asks. libzmq keeps it until there is a connection.
  const LinkHeader open{.kind = Kind::kOpen, .queue_id = state.queue_id};
  TRIREME_CHECK(state.link.try_send(0, open), "the queue of a new link is empty");
  return sender;
}

RemoteSender::RemoteSender(std::unique_ptr<State> state) : state_(std::move(state)) {}
RemoteSender::~RemoteSender() = default;

Status RemoteSender::send(std::span<const std::byte> record, Deadline deadline) {
  State& state = *state_;
  if (record.size() > state.options.record_bytes_max) {
    return error(StatusCode::kInvalidArgument, "a record of %d bytes; the queue takes up to %d",
                 record.size(), state.options.record_bytes_max);
  }
  service();
  while (!state.window.has_room(record.size()) && state.broken.ok()) {
    if (deadline.has_passed()) {
      const uint32_t slowest = state.window.slowest();
      return error(StatusCode::kDeadlineExceeded,
                   "receiver %d of the remote queue is %d records behind and takes no more",
                   slowest, state.window.backlog_of(slowest));
    }
    state.link.wait(Deadline(std::min(deadline.at(), now() + kRetryInterval)));
    service();
  }
  TRIREME_RETURN_IF_ERROR(state.broken);
  state.window.push(record);
  push_records();
  return absl::OkStatus();
}

void RemoteSender::service() {
  take_reports();
  push_records();
}

void RemoteSender::take_reports() {
  State& state = *state_;
  while (const auto incoming = state.link.try_receive(state.message)) {
    const auto& [magic, kind, queue_id, sequence] = incoming->header;
    const bool is_report = kind == Kind::kTaken || kind == Kind::kWant;
    if (!is_report || (queue_id != 0 && queue_id != state.queue_id)) {
      state.link.ignore();
      continue;
    }
    const auto report = kind == Kind::kWant ? state.window.on_wanted(incoming->peer, sequence)
                                            : state.window.on_taken(incoming->peer, sequence);
    if (report == SendWindow::Report::kBeyondEnd) state.link.ignore();
    // An old kTaken is only late; an old kWant comes from somebody who lost what it had.
    if (report == SendWindow::Report::kTooOld && kind == Kind::kWant && queue_id == 0) {
      state.broken =
          error(StatusCode::kUnavailable,
                "receiver %d of the remote queue was started anew and has lost its place",
                incoming->peer);
    }
  }
}

void RemoteSender::push_records() {
  State& state = *state_;
  for (uint32_t peer = 0; peer < state.link.peer_count(); ++peer) {
    while (state.window.has_unsent(peer)) {
      const LinkHeader header{.kind = Kind::kRecord,
                              .queue_id = state.queue_id,
                              .sequence = state.window.next_sequence(peer)};
      if (!state.link.try_send(peer, header, state.window.next_record(peer))) break;
      state.window.mark_sent(peer);
    }
  }
}

std::string RemoteSender::endpoint() const { return state_->link.endpoint(); }
uint64_t RemoteSender::ignored_total() const { return state_->link.ignored_total(); }

struct RemoteReceiver::State {
  struct Sender {
    uint64_t queue_id = 0;  // 0: nothing heard yet.
    uint64_t next = 0;
    uint64_t gap_asked_at = UINT64_MAX;  // The `next` at which a gap was last answered.
    uint64_t records_unreported = 0;
    std::size_t bytes_unreported = 0;
    Instant ask_at{};
  };
  RemoteLink link;
  RemoteQueueOptions options;
  std::vector<Sender> senders;
  std::vector<MessageSender*> served{};
  Message message{};
  Bytes record{};
  uint32_t last_sender = 0;
  bool holds_record = false;
};

StatusOr<std::unique_ptr<RemoteReceiver>> RemoteReceiver::bind(const Context& context,
                                                               const std::string& endpoint,
                                                               uint32_t sender_count,
                                                               const RemoteQueueOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(
      RemoteLink link, RemoteLink::bind(context, endpoint, sender_count, socket_options(options)));
  return std::unique_ptr<RemoteReceiver>(new RemoteReceiver(std::unique_ptr<State>(
      new State{std::move(link), options, std::vector<State::Sender>(sender_count)})));
}

StatusOr<std::unique_ptr<RemoteReceiver>> RemoteReceiver::connect(
    const Context& context, const std::string& endpoint, uint32_t index,
    const RemoteQueueOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(RemoteLink link,
                           RemoteLink::connect(context, endpoint, index, socket_options(options)));
  std::unique_ptr<RemoteReceiver> receiver(new RemoteReceiver(
      std::unique_ptr<State>(new State{std::move(link), options, std::vector<State::Sender>(1)})));
  receiver->ask_all();
  return receiver;
}

RemoteReceiver::RemoteReceiver(std::unique_ptr<State> state) : state_(std::move(state)) {}
RemoteReceiver::~RemoteReceiver() = default;

// Asks every sender that has been silent for long.
void RemoteReceiver::ask_all() {
  State& state = *state_;
  const Instant at = now();
  for (uint32_t index = 0; index < state.senders.size(); ++index) {
    State::Sender& sender = state.senders[index];
    if (at < sender.ask_at) continue;
    const LinkHeader want{
        .kind = Kind::kWant, .queue_id = sender.queue_id, .sequence = sender.next};
    if (state.link.try_send(index, want)) sender.ask_at = at + state.options.ask_interval;
  }
}

// True when it took a record in its order, false when there is no message left.
StatusOr<bool> RemoteReceiver::take_message() {
  State& state = *state_;
  while (const auto incoming = state.link.try_receive(state.message)) {
    State::Sender& sender = state.senders[incoming->peer];
    const LinkHeader& header = incoming->header;
    const bool is_senders = header.kind == Kind::kOpen || header.kind == Kind::kRecord;
    if (!is_senders || header.queue_id == 0) {
      state.link.ignore();
      continue;
    }
    if (sender.queue_id == 0) sender.queue_id = header.queue_id;
    if (sender.queue_id != header.queue_id) {
      return error(StatusCode::kUnavailable, "sender %d of the remote queue was started anew",
                   incoming->peer);
    }
    if (header.kind == Kind::kRecord && header.sequence == sender.next) {
      sender.ask_at = now() + state.options.ask_interval;
      state.record = incoming->record;
      state.last_sender = incoming->peer;
      return true;
    }
    // A gap. What came twice needs no answer.
    if (header.sequence > sender.next && sender.gap_asked_at != sender.next) {
      sender.gap_asked_at = sender.next;
      sender.ask_at = Instant{};
      ask_all();
    }
  }
  return false;
}

StatusOr<std::span<const std::byte>> RemoteReceiver::receive(Deadline deadline) {
  State& state = *state_;
  TRIREME_CHECK(!state.holds_record, "release() comes before the next receive()");
  while (true) {
    TRIREME_ASSIGN_OR_RETURN(const bool has_record, take_message());
    if (has_record) {
      state.holds_record = true;
      return state.record;
    }
    if (deadline.has_passed()) return Status(StatusCode::kDeadlineExceeded, "no record in time");
    ask_all();
    for (MessageSender* const sender : state.served) sender->service();
    state.link.wait(Deadline(std::min(deadline.at(), now() + state.options.ask_interval)));
  }
}

void RemoteReceiver::release() {
  State& state = *state_;
  TRIREME_CHECK(state.holds_record, "release() follows a receive()");
  state.holds_record = false;
  State::Sender& sender = state.senders[state.last_sender];
  ++sender.next;
  sender.bytes_unreported += state.record.size();
  ++sender.records_unreported;
  if (sender.records_unreported * 4 < state.options.window_records_max &&
      sender.bytes_unreported * 4 < state.options.window_bytes_max) {
    return;
  }
  const LinkHeader taken{
      .kind = Kind::kTaken, .queue_id = sender.queue_id, .sequence = sender.next};
  if (!state.link.try_send(state.last_sender, taken)) return;
  sender.records_unreported = sender.bytes_unreported = 0;
}

uint32_t RemoteReceiver::last_sender() const { return state_->last_sender; }

void RemoteReceiver::serve_while_waiting(MessageSender& sender) {
  state_->served.push_back(&sender);
}

std::string RemoteReceiver::endpoint() const { return state_->link.endpoint(); }
uint64_t RemoteReceiver::ignored_total() const { return state_->link.ignored_total(); }

}  // namespace trireme::zmq
