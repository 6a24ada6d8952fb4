// The ZeroMQ context of a process as its command line wants it: with the cluster key, if there is
// one (--cluster-key-file, TRIREME_CLUSTER_KEY, ~/.config/trireme/cluster.key,
// /etc/trireme/cluster.key), or --insecure-cluster.
#pragma once

#include <memory>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::zmq {
class Context;
}

namespace trireme::member {

[[nodiscard]] StatusOr<std::unique_ptr<zmq::Context>> make_cluster_context(
    const ServeOptions& options);

// For the one that starts a node, before it has threads: finds the key once and leaves it, or that
// there is none, in the environment of all its children. A key file that comes, changes or goes
// later is for the next start of the node; a restarted rank would not be understood with it.
[[nodiscard]] Status fix_cluster_key(const ServeOptions& options);

}  // namespace trireme::member
