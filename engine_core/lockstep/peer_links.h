// PeerLinks: the sockets between the engines of a lockstep group on several nodes: a ROUTER for
// what nodes below say, and a DEALER to the node above (step_tree.h). A node below is answered over
// the connection that it came by.
//
// What cannot be sent at once is dropped: the tree says it again. Garbage is dropped and counted.
// Threads: the I/O thread's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/zmq/context.h"
#include "common/zmq/dealer.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"
#include "proto/messages.h"

namespace trireme::engine {

class PeerLinks {
 public:
  static constexpr uint32_t kNodesMax = 1024;

  // Listens at `address` on a free port. Both sockets are in `poller` under these tokens.
  [[nodiscard]] static StatusOr<std::unique_ptr<PeerLinks>> listen(const zmq::Context& context,
                                                                   zmq::Poller& poller,
                                                                   const std::string& address,
                                                                   std::string identity,
                                                                   uint64_t first_token);

  // Any thread.
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  // The address of the first rank of each node.
  void begin_wave(WaveId wave, uint32_t own_node, const std::vector<std::string>& addresses);
  void send(uint32_t node, const wire::StepAgreement& message);
  // The next message, from either side.
  [[nodiscard]] std::optional<wire::StepAgreement> receive();

 private:
  PeerLinks(const zmq::Context& context, zmq::Poller& poller, zmq::Router router,
            std::string identity, uint64_t first_token);
  [[nodiscard]] std::optional<wire::StepAgreement> take(const zmq::Message& message);

  const zmq::Context& context_;
  zmq::Poller& poller_;
  zmq::Router router_;
  const std::string endpoint_;
  std::string identity_;
  uint64_t first_token_;
  uint64_t connections_ = 0;
  std::unique_ptr<zmq::Dealer> above_;
  std::string above_address_;
  uint32_t node_above_ = 0;
  // Of who spoke last as that node in a wave: the one that runs, the one before, whose last result
  // may be asked for still, and the newest that this node has not heard of yet. A rank that is left
  // behind in an older one is not listened to.
  struct NodesBelow {
    WaveId wave;
    std::vector<std::string> identities;
  };
  void note_below(const wire::StepAgreement& message, std::string_view identity);
  NodesBelow current_;
  NodesBelow before_;
  NodesBelow next_;
  zmq::Message message_;
  wire::Buffer buffer_;
  uint64_t dropped_ = 0;
};

}  // namespace trireme::engine
