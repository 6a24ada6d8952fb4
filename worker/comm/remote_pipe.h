// RemotePipe: the pipe between two ranks on different nodes, over ZeroMQ. One direction: the
// receiving end listens, the sending end connects; the call of the other direction is refused.
//
// Values go in messages of up to kPieceFloats; header: the group they belong to, and a number.
// What another life of the engine's group still sends is ignored; a gap (a connection broke, and
// took messages along) breaks the pipe, for a rank cannot compute without these values.
// Bounds: kPiecesMax messages wait at each end, then send() waits. A wait beyond the limit names
// the other rank. Threads: one at each end. Lifetime: the context outlives it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/zmq/context.h"
#include "worker/comm/pipe.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

struct RemotePipeOptions {
  uint64_t group = 0;      // The life of the engine that this pipe is for.
  uint32_t peer_rank = 0;  // Of the other end, for its errors.
  Duration limit{};
  LifeSigns life;  // Shows every wait.
};

class RemotePipe final : public HiddenPipe {
 public:
  static constexpr std::size_t kPieceFloats = 32 * 1024;
  static constexpr int kPiecesMax = 16;

  // The sending end. Works before the other end listens.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemotePipe>> connect(
      const zmq::Context& context, const std::string& endpoint, const RemotePipeOptions& options);
  // The receiving end. `listen_fd`: a listening socket at `endpoint`, which it takes over; -1: it
  // makes one.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemotePipe>> listen(
      const zmq::Context& context, const std::string& endpoint, int listen_fd,
      const RemotePipeOptions& options);
  ~RemotePipe() override;

  [[nodiscard]] Status send(std::span<const float> values) override;
  [[nodiscard]] Status receive(std::span<float> values) override;
  // Where it listens.
  [[nodiscard]] std::string endpoint() const;

 private:
  struct State;
  explicit RemotePipe(std::unique_ptr<State> state);
  [[nodiscard]] Status send_piece(std::span<const float> piece);
  [[nodiscard]] Status receive_piece(std::span<float> piece);
  void wait(Instant until);
  [[nodiscard]] Status late(const char* what) const;

  std::unique_ptr<State> state_;
};

}  // namespace trireme::worker
