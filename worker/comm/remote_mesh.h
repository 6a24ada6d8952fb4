// RemoteMesh: the links of a place to those of other nodes, over ZeroMQ. The remote half of
// spanned_links.h.
//
//   place A   Dealer ──────────────▶ Router   place C        one connection each way; nothing goes
//             Router ◀────────────── Dealer                   back on it
//
// Each message carries the lives of both ends and the wave; what an earlier wave or another life
// sends is ignored. Messages are numbered, kept until they were taken, and sent again when the
// other asks: at a gap, and after a while without a word (remote_peer.h). So a connection that
// breaks and is made again loses nothing.
//
// A member may miss something after our transfer() is through, while this place computes or waits
// for others. Therefore a keeper, a thread that looks every kKeepInterval whether it has the turn,
// answers and sends again until nothing can be missed any more, at most `limit` after the last
// transfer; then it sleeps. It starts with the first wave that has a member here.
//
// Bounds: those of RemotePeer, for each member. A wait without any progress ends at `limit`, and
// notices within kLookInterval that the wave was abandoned.
// Threads: one, and the keeper; everything belongs to who has the turn, and nobody keeps it while
// it waits but in finish(), when there is nothing for a keeper to do. Lifetime: the context
// outlives it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <semaphore>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/zmq/context.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"
#include "common/zmq/wakeup.h"
#include "worker/comm/remote_peer.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

struct RemoteMember {
  uint32_t place = 0;
  std::string address;
};

class RemoteMesh {
 public:
  static constexpr Duration kLookInterval = std::chrono::milliseconds(5);
  static constexpr Duration kKeepInterval = std::chrono::milliseconds(20);
  // Whom a wait is for shows when nothing has moved for so long: links that are slow move.
  static constexpr Duration kShowAfter = std::chrono::milliseconds(500);

  struct Options {
    uint32_t place = 0;
    Duration limit{};
    LifeSigns life;  // Shows its waits, and for which place they are.
  };
  // At "tcp://10.0.0.1:0", say.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteMesh>> listen(const zmq::Context& context,
                                                                    const std::string& endpoint,
                                                                    const Options& options);
  ~RemoteMesh();

  // For RemoteMember::address.
  [[nodiscard]] std::string address() const { return text_of(own_); }
  // kInvalidArgument: an address is none.
  [[nodiscard]] Status join(WaveId wave, std::span<const RemoteMember> members);

  // A transfer: begin(), then finish() or give_up(). By index among the members. The pieces stay
  // where they are until then.
  void begin(std::span<const OutgoingPieces> outgoing);
  // kAborted, kDeadlineExceeded, kDataLoss, or an error of `incoming`: the wave is over, as after
  // give_up().
  [[nodiscard]] Status finish(IncomingPieces& incoming, const std::function<bool()>& is_abandoned);
  void give_up();
  // Messages of other waves and lives, and of strangers.
  [[nodiscard]] uint64_t ignored_total() const { return ignored_total_.load(); }

 private:
  RemoteMesh(const zmq::Context& context, zmq::Router router, zmq::Poller poller,
             zmq::Wakeup wakeup, const Options& options);
  [[nodiscard]] StatusOr<std::unique_ptr<RemotePeer>> peer_at(const RemoteMember& member);
  [[nodiscard]] RemotePeer* find(uint32_t place) const;
  void take_in();
  [[nodiscard]] StatusOr<bool> move(IncomingPieces& incoming);
  [[nodiscard]] Status run(IncomingPieces& incoming, const std::function<bool()>& is_abandoned);
  [[nodiscard]] bool is_awaited(const RemotePeer& peer) const;
  void wait(Instant at, Deadline deadline, Instant moved_at);
  [[nodiscard]] Status late() const;
  void leave_to_keeper();
  void keep(const std::stop_token& stop) noexcept;
  void serve();

  const zmq::Context& context_;
  const Options options_;
  ExpertAddress own_;
  zmq::Router router_;
  zmq::Poller poller_;
  std::unique_ptr<zmq::Message> spare_ = std::make_unique<zmq::Message>();
  std::vector<std::unique_ptr<RemotePeer>> peers_;
  uint64_t tag_ = 0;  // Of the wave.
  uint64_t transfer_ = 0;
  bool is_over_ = true;  // The wave.
  Instant keep_until_{};
  std::atomic<uint64_t> ignored_total_{0};

  std::binary_semaphore turn_{1};
  std::atomic<bool> wants_keeper_{false};
  std::atomic<bool> does_keeper_sleep_{false};
  zmq::Wakeup wakeup_;
  std::jthread keeper_;
};

}  // namespace trireme::worker
