// The port of the control channel, taken by the launcher and held for its whole life, so that a
// restarted coordinator has the same one.
//
//   --data-parallel-rpc-port   that one; an error that names it when it is taken
//   not given, one node        any free one: clusters beside one another need no flag
//   not given, several nodes   kControlPortDefault, where the others look
#pragma once

#include <optional>

#include "api_server/launcher/listen_socket.h"
#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::zmq {
struct ContextOptions;
}

namespace trireme::api {

// Nothing: another node has the coordinator. Beyond loopback only with a cluster key or
// --insecure-cluster.
[[nodiscard]] StatusOr<std::optional<ListenSocket>> take_control_port(
    const ServeOptions& options, const zmq::ContextOptions& context);

}  // namespace trireme::api
