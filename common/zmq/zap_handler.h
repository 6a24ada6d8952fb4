// ZapHandler: libzmq asks it, over inproc (ZAP, ZeroMQ RFC 27), whether a peer may enter.
//
// Yes for the CURVE mechanism with the cluster's public key: the handshake has proved by then that
// the peer holds the secret half. No for everything else.
// Threads: one of its own, which ends when the context shuts down.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "common/status.h"
#include "common/zmq/cluster_key.h"

namespace trireme::zmq {

inline constexpr char kZapDomain[] = "trireme";

class ZapHandler {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<ZapHandler>> start(void* context,
                                                                   const ClusterKey& key);
  [[nodiscard]] uint64_t refused_total() const { return refused_total_.load(); }

 private:
  ZapHandler(void* socket, std::string public_key);
  void run() noexcept;
  [[nodiscard]] bool is_allowed(const std::string& mechanism, const std::string& key) const;

  void* socket_;  // The thread's own once it runs.
  std::string public_key_;
  std::atomic<uint64_t> refused_total_{0};
  std::jthread thread_;
};

}  // namespace trireme::zmq
