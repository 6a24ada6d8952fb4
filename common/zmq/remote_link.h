// RemoteLink: numbered peers behind one socket, for remote_queue.cc; its wire format.
//
// The connecting end is a Dealer with one peer, 0. The binding end is a Router; its peers are the
// Dealers "q0", "q1", … up to the count it was made with, everybody else is ignored.
// On the wire: one frame Header (little-endian), and the record as a second frame after kRecord.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "common/status.h"
#include "common/zmq/dealer.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"

namespace trireme::zmq {

struct LinkHeader {
  static constexpr uint32_t kMagic = 0x31515254;  // "TRQ1"
  enum class Kind : uint32_t {
    kOpen = 1,    // Sender: here I am.
    kRecord = 2,  // Sender: record `sequence` follows.
    kTaken = 3,   // Receiver: I have all before `sequence`.
    kWant = 4,    // Receiver: the same, and send from there again.
  };

  uint32_t magic = kMagic;
  Kind kind{};
  uint64_t queue_id = 0;  // The sender's, new with each start; 0 from a receiver that knows none.
  uint64_t sequence = 0;
};
static_assert(sizeof(LinkHeader) == 24);

class RemoteLink {
 public:
  struct Incoming {
    uint32_t peer;
    LinkHeader header;
    Bytes record;
  };
  [[nodiscard]] static StatusOr<RemoteLink> bind(const Context& context,
                                                 const std::string& endpoint, uint32_t peer_count,
                                                 const SocketOptions& options);
  [[nodiscard]] static StatusOr<RemoteLink> connect(const Context& context,
                                                    const std::string& endpoint, uint32_t index,
                                                    const SocketOptions& options);
  RemoteLink(RemoteLink&&) = default;

  [[nodiscard]] uint32_t peer_count() const { return peer_count_; }
  [[nodiscard]] bool try_send(uint32_t peer, const LinkHeader& header, Bytes record = {});
  // The next sound message; `record` is valid until the next call.
  [[nodiscard]] std::optional<Incoming> try_receive(Message& message);
  void wait(Deadline deadline);
  // Where it is bound.
  [[nodiscard]] std::string endpoint() const;
  [[nodiscard]] uint64_t ignored_total() const { return ignored_total_; }
  void ignore() { ++ignored_total_; }

 private:
  using AnySocket = std::variant<Router, Dealer>;
  RemoteLink(std::unique_ptr<AnySocket> socket, Poller poller, uint32_t peer_count)
      : socket_(std::move(socket)), poller_(std::move(poller)), peer_count_(peer_count) {}
  [[nodiscard]] static StatusOr<RemoteLink> make(AnySocket socket, uint32_t peer_count);
  [[nodiscard]] std::optional<uint32_t> peer_of(const Message& message) const;
  [[nodiscard]] Socket& socket() const;

  std::unique_ptr<AnySocket> socket_;  // In place for the poller.
  Poller poller_;
  uint32_t peer_count_;
  uint64_t ignored_total_ = 0;
};

}  // namespace trireme::zmq
