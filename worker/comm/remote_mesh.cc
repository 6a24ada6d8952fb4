#include "worker/comm/remote_mesh.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/random.h"

namespace trireme::worker {
namespace {

// A full queue ends without a word.
constexpr Duration kRetryInterval = std::chrono::milliseconds(1);

class Turn {
 public:
  explicit Turn(std::binary_semaphore& turn) : turn_(turn) { turn_.acquire(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { turn_.release(); }

 private:
  std::binary_semaphore& turn_;
};

}  // namespace

StatusOr<std::unique_ptr<RemoteMesh>> RemoteMesh::listen(const zmq::Context& context,
                                                         const std::string& endpoint,
                                                         const Options& options) {
  TRIREME_ASSIGN_OR_RETURN(zmq::Router router,
                           zmq::Router::create(context, RemotePeer::socket_options()));
  TRIREME_RETURN_IF_ERROR(router.bind(endpoint));
  TRIREME_ASSIGN_OR_RETURN(zmq::Poller poller, zmq::Poller::create());
  TRIREME_ASSIGN_OR_RETURN(zmq::Wakeup wakeup, zmq::Wakeup::create());
  std::unique_ptr<RemoteMesh> mesh(
      new RemoteMesh(context, std::move(router), std::move(poller), std::move(wakeup), options));
  TRIREME_RETURN_IF_ERROR(mesh->poller_.add(mesh->router_, 0));
  return mesh;
}

RemoteMesh::RemoteMesh(const zmq::Context& context, zmq::Router router, zmq::Poller poller,
                       zmq::Wakeup wakeup, const Options& options)
    : context_(context),
      options_(options),
      own_{.endpoint = router.last_endpoint(), .life = entropy64() | 1},
      router_(std::move(router)),
      poller_(std::move(poller)),
      wakeup_(std::move(wakeup)) {}

RemoteMesh::~RemoteMesh() {
  keeper_.request_stop();
  wakeup_.notify();
}

RemotePeer* RemoteMesh::find(uint32_t place) const {
  const auto found =
      std::ranges::find_if(peers_, [&](const auto& peer) { return peer->place() == place; });
  return found == peers_.end() ? nullptr : found->get();
}

StatusOr<std::unique_ptr<RemotePeer>> RemoteMesh::peer_at(const RemoteMember& member) {
  TRIREME_ASSIGN_OR_RETURN(const ExpertAddress address, parse_expert_address(member.address));
  for (std::unique_ptr<RemotePeer>& peer : peers_) {
    if (peer != nullptr && peer->place() == member.place && peer->address() == address) {
      return std::move(peer);
    }
  }
  return RemotePeer::connect(context_, {.place = options_.place, .life = own_.life}, member.place,
                             address);
}

Status RemoteMesh::join(WaveId wave, std::span<const RemoteMember> members) {
  const Turn turn(turn_);
  is_over_ = true;
  std::vector<std::unique_ptr<RemotePeer>> peers;
  for (const RemoteMember& member : members) {
    StatusOr<std::unique_ptr<RemotePeer>> peer = peer_at(member);
    if (!peer.ok()) {
      peers_.clear();
      return annotate(peer.status(), absl::StrFormat("place %u", member.place));
    }
    peers.push_back(*std::move(peer));
  }
  peers_ = std::move(peers);
  tag_ = wave.value + 1;
  transfer_ = 0;
  is_over_ = false;
  for (const auto& peer : peers_) peer->enter_wave(tag_);
  if (!peers_.empty() && !keeper_.joinable()) {
    keeper_ = std::jthread([this](const std::stop_token& stop) { keep(stop); });
  }
  return absl::OkStatus();
}

void RemoteMesh::take_in() {
  while (router_.try_receive(*spare_)) {
    RemoteHeader header;
    const zmq::Bytes frame = spare_->frame(0);
    bool is_heard = spare_->frame_count() == 1 && frame.size() >= sizeof(header);
    if (is_heard) {
      std::memcpy(&header, frame.data(), sizeof(header));
      is_heard = header.magic == RemoteHeader::kMagic && header.to_life == own_.life;
    }
    RemotePeer* const peer = is_heard ? find(header.from_place) : nullptr;
    if (peer == nullptr || !peer->on_message(header, spare_)) ++ignored_total_;
  }
}

void RemoteMesh::begin(std::span<const OutgoingPieces> outgoing) {
  {
    const Turn turn(turn_);
    TRIREME_CHECK(outgoing.size() == peers_.size(), "pieces are by member");
    ++transfer_;
    keep_until_ = now() + options_.limit;
    take_in();
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      peers_[i]->begin_sending(outgoing[i], transfer_);
      peers_[i]->push();
    }
  }
  leave_to_keeper();
}

Status RemoteMesh::finish(IncomingPieces& incoming, const std::function<bool()>& is_abandoned) {
  Status status;
  {
    const Turn turn(turn_);
    status = run(incoming, is_abandoned);
    is_over_ = !status.ok();
    keep_until_ = now() + options_.limit;
    for (const auto& peer : peers_) peer->drop_pieces();
  }
  if (status.ok()) leave_to_keeper();
  return status;
}

void RemoteMesh::give_up() {
  const Turn turn(turn_);
  is_over_ = true;
  for (const auto& peer : peers_) peer->drop_pieces();
}

Status RemoteMesh::run(IncomingPieces& incoming, const std::function<bool()>& is_abandoned) {
  for (uint32_t i = 0; i < peers_.size(); ++i) {
    TRIREME_RETURN_IF_ERROR(peers_[i]->begin_receiving(i, incoming));
  }
  Instant moved_at = now();
  Deadline deadline(moved_at + options_.limit);
  while (true) {
    TRIREME_ASSIGN_OR_RETURN(const bool has_moved, move(incoming));
    if (std::ranges::none_of(peers_, [&](const auto& peer) { return is_awaited(*peer); })) {
      return absl::OkStatus();
    }
    for (const auto& peer : peers_) {
      if (!peer->has_left()) continue;
      return error(StatusCode::kAborted, "wave %u was left by place %u", tag_ - 1, peer->place());
    }
    if (is_abandoned()) {
      return error(StatusCode::kAborted, "wave %u was left by the engine of place %u", tag_ - 1,
                   options_.place);
    }
    const Instant at = now();
    if (has_moved) {
      moved_at = at;
      deadline = Deadline(at + options_.limit);
    } else if (at >= deadline.at()) {
      return late();
    } else {
      wait(at, deadline, moved_at);
    }
  }
}

StatusOr<bool> RemoteMesh::move(IncomingPieces& incoming) {
  take_in();
  bool has_moved = false;
  for (uint32_t i = 0; i < peers_.size(); ++i) {
    has_moved = peers_[i]->push() || has_moved;
    TRIREME_ASSIGN_OR_RETURN(const bool has_received, peers_[i]->receive(i, incoming));
    has_moved = has_received || has_moved;
  }
  return has_moved;
}

bool RemoteMesh::is_awaited(const RemotePeer& peer) const {
  return !peer.has_sent() || !peer.has_received();
}

void RemoteMesh::wait(Instant at, Deadline deadline, Instant moved_at) {
  Duration longest = kLookInterval;
  const RemotePeer* awaited = nullptr;
  for (const auto& peer : peers_) {
    if (!is_awaited(*peer)) continue;
    if (awaited == nullptr) awaited = peer.get();
    if (!peer->has_sent()) longest = kRetryInterval;
    peer->ask_if_silent(at);
  }
  options_.life.show_wait();
  if (at - moved_at >= kShowAfter) options_.life.await(awaited->place());
  [[maybe_unused]] const auto ready = poller_.wait(Deadline(std::min(deadline.at(), at + longest)));
  options_.life.await_nobody();
}

Status RemoteMesh::late() const {
  std::string missing;
  for (const auto& peer : peers_) {
    if (!is_awaited(*peer)) continue;
    absl::StrAppendFormat(&missing, "%s%u", missing.empty() ? "" : ", ", peer->place());
  }
  return error(StatusCode::kDeadlineExceeded,
               "wave %u, place %u: place %s, on another node, did not come within %.3g s", tag_ - 1,
               options_.place, missing, std::chrono::duration<double>(options_.limit).count());
}

// Either the keeper sees the wish before it sleeps, or we see that it sleeps.
void RemoteMesh::leave_to_keeper() {
  wants_keeper_.store(true);
  if (does_keeper_sleep_.load()) wakeup_.notify();
}

void RemoteMesh::keep(const std::stop_token& stop) noexcept {
  ::pthread_setname_np(::pthread_self(), "experts");
  StatusOr<zmq::Poller> poller = zmq::Poller::create();
  TRIREME_CHECK(poller.ok() && poller->add_fd(wakeup_.fd(), 0).ok(), "two descriptors are left");
  while (!stop.stop_requested()) {
    does_keeper_sleep_.store(true);
    Deadline deadline = Deadline::never();
    if (wants_keeper_.load()) {
      does_keeper_sleep_.store(false);
      deadline = Deadline::after(kKeepInterval);
    }
    if (!poller->wait(deadline).empty()) {
      wakeup_.drain();
      continue;
    }
    if (!turn_.try_acquire()) continue;
    serve();
    turn_.release();
  }
}

void RemoteMesh::serve() {
  const Instant at = now();
  wants_keeper_.store(false);
  if (is_over_ || at >= keep_until_) return;
  take_in();
  for (const auto& peer : peers_) {
    peer->push();
    peer->report();
    if (peer->is_settled()) continue;
    peer->ask_if_silent(at);
    wants_keeper_.store(true);
  }
}

}  // namespace trireme::worker
