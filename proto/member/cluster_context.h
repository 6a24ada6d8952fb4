// The ZeroMQ context of a process as its command line wants it: with the cluster key, if there is
// one (--cluster-key-file, TRIREME_CLUSTER_KEY, ~/.config/trireme/cluster.key,
// /etc/trireme/cluster.key), or --insecure-cluster.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::zmq {
class Context;
}

namespace trireme::member {

[[nodiscard]] StatusOr<std::unique_ptr<zmq::Context>> make_cluster_context(
    const ServeOptions& options);

// How many engine ranks this node runs: --data-parallel-size-local, else all of them (one with
// --data-parallel-rank).
[[nodiscard]] uint32_t local_engine_count(const ServeOptions& options);

// Where the coordinator of this cluster is bound and found: --data-parallel-address, or loopback
// when every rank is on this node, so that a one-node cluster is never open to the network.
[[nodiscard]] std::string control_endpoint(const ServeOptions& options);

// "tcp://10.0.0.1:13345", IPv6 in brackets.
[[nodiscard]] std::string tcp_endpoint(const std::string& host, uint16_t port);

}  // namespace trireme::member
