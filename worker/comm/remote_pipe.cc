#include "worker/comm/remote_pipe.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/zmq/remote_link.h"

namespace trireme::worker {
namespace {

using zmq::LinkHeader;

// A socket's fullness ends without a word.
constexpr Duration kRetryInterval = std::chrono::milliseconds(1);

zmq::SocketOptions socket_options(int listen_fd) {
  return {.send_messages_max = RemotePipe::kPiecesMax,
          .receive_messages_max = RemotePipe::kPiecesMax,
          .frame_bytes_max = RemotePipe::kPieceFloats * sizeof(float),
          .listen_fd = listen_fd};
}

}  // namespace

struct RemotePipe::State {
  zmq::RemoteLink link;
  RemotePipeOptions options;
  bool is_sender;
  uint64_t next = 0;  // Number of the next message.
  zmq::Message message{};
  Status broken = absl::OkStatus();
};

StatusOr<std::unique_ptr<RemotePipe>> RemotePipe::connect(const zmq::Context& context,
                                                          const std::string& endpoint,
                                                          const RemotePipeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(auto link,
                           zmq::RemoteLink::connect(context, endpoint, 0, socket_options(-1)));
  return std::unique_ptr<RemotePipe>(
      new RemotePipe(std::unique_ptr<State>(new State{std::move(link), options, true})));
}

StatusOr<std::unique_ptr<RemotePipe>> RemotePipe::listen(const zmq::Context& context,
                                                         const std::string& endpoint, int listen_fd,
                                                         const RemotePipeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(auto link,
                           zmq::RemoteLink::bind(context, endpoint, 1, socket_options(listen_fd)));
  return std::unique_ptr<RemotePipe>(
      new RemotePipe(std::unique_ptr<State>(new State{std::move(link), options, false})));
}

RemotePipe::RemotePipe(std::unique_ptr<State> state) : state_(std::move(state)) {}
RemotePipe::~RemotePipe() = default;

std::string RemotePipe::endpoint() const { return state_->link.endpoint(); }

Status RemotePipe::send(std::span<const float> values) {
  if (!state_->is_sender) return Status(StatusCode::kInternal, "this end of the pipe receives");
  while (!values.empty() && state_->broken.ok()) {
    const auto piece = values.first(std::min(values.size(), kPieceFloats));
    state_->broken = send_piece(piece);
    values = values.subspan(piece.size());
  }
  return state_->broken;
}

Status RemotePipe::receive(std::span<float> values) {
  if (state_->is_sender) return Status(StatusCode::kInternal, "this end of the pipe sends");
  while (!values.empty() && state_->broken.ok()) {
    const auto piece = values.first(std::min(values.size(), kPieceFloats));
    state_->broken = receive_piece(piece);
    values = values.subspan(piece.size());
  }
  return state_->broken;
}

Status RemotePipe::send_piece(std::span<const float> piece) {
  const LinkHeader header{.kind = LinkHeader::Kind::kRecord,
                          .queue_id = state_->options.group,
                          .sequence = state_->next};
  const Deadline deadline = Deadline::after(state_->options.limit);
  while (!state_->link.try_send(0, header, std::as_bytes(piece))) {
    if (deadline.has_passed()) return late("took no values");
    wait(std::min(deadline.at(), now() + kRetryInterval));
  }
  ++state_->next;
  return absl::OkStatus();
}

Status RemotePipe::receive_piece(std::span<float> piece) {
  const Deadline deadline = Deadline::after(state_->options.limit);
  while (true) {
    const auto incoming = state_->link.try_receive(state_->message);
    if (!incoming) {
      if (deadline.has_passed()) return late("gave no values");
      wait(std::min(deadline.at(), now() + LifeSigns::kShowWait));
      continue;
    }
    const LinkHeader& header = incoming->header;
    if (header.kind != LinkHeader::Kind::kRecord || header.queue_id != state_->options.group) {
      state_->link.ignore();
      continue;
    }
    if (header.sequence != state_->next) {
      return error(StatusCode::kUnavailable,
                   "message %u of rank %u came where %u was due: the connection broke",
                   header.sequence, state_->options.peer_rank, state_->next);
    }
    if (incoming->record.size() != piece.size_bytes()) {
      return error(StatusCode::kInternal, "rank %u brings %u values, %u are due",
                   state_->options.peer_rank, incoming->record.size() / sizeof(float),
                   piece.size());
    }
    std::memcpy(piece.data(), incoming->record.data(), piece.size_bytes());
    ++state_->next;
    return absl::OkStatus();
  }
}

void RemotePipe::wait(Instant until) {
  state_->options.life.show_wait();
  state_->link.wait(Deadline(until));
}

Status RemotePipe::late(const char* what) const {
  return error(StatusCode::kDeadlineExceeded, "rank %u on another node %s within %.3g s",
               state_->options.peer_rank, what,
               std::chrono::duration<double>(state_->options.limit).count());
}

}  // namespace trireme::worker
