// RemotePeer: one member of a wave on another node, as remote_mesh.h sees it. What goes there and
// what comes from there are streams of bytes, cut into numbered messages (stream_ends.h) that never
// hold bytes of two transfers.
//
// On the wire: a frame RemoteHeader (little-endian), bytes behind it after kRecord.
// Nothing but kAsk is sent before the other has been heard in the same wave; so the first word of
// each wave is kAsk, and is answered.
//
// Bounds: kStreamMessagesMax messages of kMessageBytesMax each way. Memory: messages hold what
// libzmq gave. Threads: one at a time (remote_mesh.h).
#pragma once

#include <array>
#include <memory>
#include <span>

#include "common/clock.h"
#include "common/zmq/dealer.h"
#include "worker/comm/expert_address.h"
#include "worker/comm/expert_links.h"
#include "worker/comm/stream_ends.h"

namespace trireme::worker {

struct RemoteHeader {
  static constexpr uint32_t kMagic = 0x31585254;  // "TRX1"
  enum class Kind : uint32_t {
    kAsk = 1,     // Answer, and send all from `sequence` on, again if need be.
    kTaken = 2,   // The answer to that where nothing is to be sent; and now and then without it.
    kRecord = 3,  // Message `sequence`, of `transfer`.
  };

  uint32_t magic = kMagic;
  Kind kind{};
  uint32_t from_place = 0;
  uint32_t reserved = 0;
  uint64_t from_life = 0;
  uint64_t to_life = 0;
  uint64_t wave = 0;  // Its tag: 1 + the wave.
  uint64_t transfer = 0;
  uint64_t sequence = 0;
  uint64_t taken = 0;  // Messages of the other's stream.
};
static_assert(sizeof(RemoteHeader) == 64);

class RemotePeer {
 public:
  static constexpr std::size_t kMessageBytesMax = 128 * 1024;
  static constexpr Duration kAskAfterMin = std::chrono::milliseconds(100);
  static constexpr Duration kAskAfterMax = std::chrono::seconds(2);

  struct Self {
    uint32_t place = 0;
    uint64_t life = 0;
  };
  [[nodiscard]] static StatusOr<std::unique_ptr<RemotePeer>> connect(const zmq::Context& context,
                                                                     const Self& self,
                                                                     uint32_t place,
                                                                     const ExpertAddress& address);
  // What both ends of a link may hold.
  [[nodiscard]] static zmq::SocketOptions socket_options();

  [[nodiscard]] uint32_t place() const { return place_; }
  [[nodiscard]] const ExpertAddress& address() const { return address_; }
  // Forgets all of the wave before, and says so.
  void enter_wave(uint64_t tag);
  // In a later wave already.
  [[nodiscard]] bool has_left() const { return has_left_; }

  // From this place, to our life. A record that is due is kept, and `message` another one then.
  // False: it says nothing to us.
  bool on_message(const RemoteHeader& header, std::unique_ptr<zmq::Message>& message);

  // The pieces stay where they are until has_sent(), or drop_pieces().
  void begin_sending(const OutgoingPieces& pieces, uint64_t transfer);
  void drop_pieces();
  // Sends what may be sent. Whether anything was.
  bool push();
  [[nodiscard]] bool has_sent() const { return to_send_.empty() && !out_.has_unsent(); }

  [[nodiscard]] Status begin_receiving(uint32_t member, IncomingPieces& incoming);
  // Puts what has come where it belongs. Whether there was anything.
  [[nodiscard]] StatusOr<bool> receive(uint32_t member, IncomingPieces& incoming);
  [[nodiscard]] bool has_received() const { return to_receive_.empty(); }

  // Neither of us can miss anything any more.
  [[nodiscard]] bool is_settled() const {
    return has_sent() && out_.is_all_taken() && !in_.has_unreported();
  }
  void report();
  // Something is awaited from there: after a while without a word, ask.
  void ask_if_silent(Instant at);

 private:
  RemotePeer(zmq::Dealer dealer, const Self& self, uint32_t place, ExpertAddress address)
      : dealer_(std::move(dealer)), self_(self), place_(place), address_(std::move(address)) {}
  [[nodiscard]] RemoteHeader header_of(RemoteHeader::Kind kind, uint64_t sequence) const;
  void say(RemoteHeader::Kind kind);
  bool keep(uint64_t sequence, std::unique_ptr<zmq::Message>& message);
  void take_next_piece();
  void fill();
  [[nodiscard]] StatusOr<std::span<const std::byte>> bytes_in(const zmq::Message& message) const;

  zmq::Dealer dealer_;
  const Self self_;
  const uint32_t place_;
  const ExpertAddress address_;
  uint64_t wave_ = 0;
  uint64_t transfer_ = 0;
  bool is_there_ = false;  // Was heard in this wave.
  bool has_left_ = false;

  SendingEnd out_;
  std::array<zmq::SharedFrame, kStreamMessagesMax> sent_;
  OutgoingPieces pieces_;
  std::size_t piece_ = 0;  // The next one.
  std::span<const std::byte> to_send_;

  TakingEnd in_;
  std::array<std::unique_ptr<zmq::Message>, kStreamMessagesMax> arrived_;
  std::size_t offset_ = 0;  // In the message that is next to be taken.
  std::span<std::byte> to_receive_;

  bool was_heard_ = false;
  Instant ask_at_{};
  Duration ask_after_ = kAskAfterMin;
};

}  // namespace trireme::worker
