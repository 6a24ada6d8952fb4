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

}  // namespace trireme::member
