// Context: the I/O threads of one process and what its sockets have in common.
//
// With a cluster key every tcp socket speaks CURVE and accepts nobody but holders of that key (a
// ZAP handler on a thread of its own compares, from before the first socket until the shutdown),
// unless the socket asks for `loopback_only`. Without a key, sockets refuse addresses beyond
// loopback unless `insecure`.
// Threads: sockets may be made by any thread; each socket then belongs to one. Lifetime: outlives
// its sockets; destruction waits at most their linger time for what is still to be sent.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/status.h"
#include "common/zmq/cluster_key.h"

namespace trireme::zmq {

struct ContextOptions {
  int io_threads = 1;
  int sockets_max = 4096;
  std::optional<ClusterKey> key;
  bool insecure = false;  // --insecure-cluster
};

class ZapHandler;

class Context {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<Context>> create(ContextOptions options);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  [[nodiscard]] const ContextOptions& options() const { return options_; }
  // Peers turned away because their CURVE key is not the cluster's.
  [[nodiscard]] uint64_t refused_peers_total() const;
  [[nodiscard]] void* handle() const { return handle_; }  // For this folder only.

 private:
  Context(ContextOptions options, void* handle);
  ContextOptions options_;
  void* handle_;
  std::unique_ptr<ZapHandler> zap_;
};

}  // namespace trireme::zmq
