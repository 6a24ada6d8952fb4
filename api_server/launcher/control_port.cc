#include "api_server/launcher/control_port.h"

#include "common/zmq/context.h"
#include "common/zmq/link_safety.h"
#include "proto/member/cluster_shape.h"

namespace trireme::api {

StatusOr<std::optional<ListenSocket>> take_control_port(const ServeOptions& options,
                                                        const zmq::ContextOptions& context) {
  if (!member::starts_coordinator(options)) return std::nullopt;
  TRIREME_RETURN_IF_ERROR(
      annotate(zmq::check_bind_is_safe(member::control_endpoint(options), context.key.has_value(),
                                       context.insecure),
               "--data-parallel-address"));
  const bool is_found_by_others = !member::is_one_node(options);
  const uint16_t port = is_found_by_others ? member::control_port(options)
                                           : options.parallel.data_parallel_rpc_port.value_or(0);
  if (is_found_by_others && port == 0) {
    return error(StatusCode::kInvalidArgument,
                 "--data-parallel-rpc-port 0: the other nodes cannot find a port that is not said; "
                 "give one");
  }
  return listen_for_control(member::control_host(options), port);
}

}  // namespace trireme::api
