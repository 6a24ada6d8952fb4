// The message queue between nodes: the interface of common/message_queue.h over ZeroMQ.
//
//   broadcast   RemoteSender binds        <── R RemoteReceivers connect, each with its index
//   responses   RemoteReceiver binds      <── N RemoteSenders connect, each with its index
//
// Frames: Header | record. A record has a sequence number; the receiver acknowledges what it took
// and asks again for what a broken connection lost (at a gap, and every `ask_interval` of silence).
// The sender keeps a record until every receiver has taken it: lossless over reconnects, and
// bounded by the window. It repeats records inside send() and service(), so call service() while
// waiting for anything else; a RemoteReceiver does it for the senders it is told of.
//
// Deaths are not noticed here but by the deadline (leases do that); a peer that was started anew
// is, by the id of its queue: Unavailable. A peer that sends anything else is ignored, and counted.
// Threads: each end belongs to one thread. Lifetime: the context outlives both.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/message_queue.h"
#include "common/zmq/context.h"

namespace trireme::zmq {

struct RemoteQueueOptions {
  std::size_t window_records_max = 64;
  std::size_t window_bytes_max = std::size_t{256} << 20;
  std::size_t record_bytes_max = std::size_t{64} << 20;
  Duration ask_interval = std::chrono::milliseconds(500);
};

class RemoteLink;

class RemoteSender final : public MessageSender {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteSender>> bind(
      const Context& context, const std::string& endpoint, uint32_t receiver_count,
      const RemoteQueueOptions& options = {});
  // To a receiver that binds; `index` is this sender's there.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteSender>> connect(
      const Context& context, const std::string& endpoint, uint32_t index,
      const RemoteQueueOptions& options = {});
  ~RemoteSender() override;

  // Returns once the record is in the window. DeadlineExceeded names the receiver that is behind.
  [[nodiscard]] Status send(std::span<const std::byte> record, Deadline deadline) override;
  void service() override;
  // Where it is bound.
  [[nodiscard]] std::string endpoint() const;
  [[nodiscard]] uint64_t ignored_total() const;

 private:
  struct State;
  explicit RemoteSender(std::unique_ptr<State> state);
  void take_reports();
  void push_records();
  std::unique_ptr<State> state_;
};

class RemoteReceiver final : public MessageReceiver {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteReceiver>> bind(
      const Context& context, const std::string& endpoint, uint32_t sender_count,
      const RemoteQueueOptions& options = {});
  // To a sender that binds; `index` is this receiver's there.
  [[nodiscard]] static StatusOr<std::unique_ptr<RemoteReceiver>> connect(
      const Context& context, const std::string& endpoint, uint32_t index,
      const RemoteQueueOptions& options = {});
  ~RemoteReceiver() override;

  [[nodiscard]] StatusOr<std::span<const std::byte>> receive(Deadline deadline) override;
  void release() override;
  // Whose record the last receive() gave.
  [[nodiscard]] uint32_t last_sender() const;
  // Its service() is called while receive() waits. Must outlive this receiver.
  void serve_while_waiting(MessageSender& sender);
  [[nodiscard]] std::string endpoint() const;
  [[nodiscard]] uint64_t ignored_total() const;

 private:
  struct State;
  explicit RemoteReceiver(std::unique_ptr<State> state);
  [[nodiscard]] StatusOr<bool> take_message();
  void ask_all();
  std::unique_ptr<State> state_;
};

}  // namespace trireme::zmq
