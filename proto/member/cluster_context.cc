#include "proto/member/cluster_context.h"

#include <cstdlib>

#include "common/zmq/cluster_key.h"
#include "common/zmq/context.h"

namespace trireme::member {
namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

StatusOr<std::unique_ptr<zmq::Context>> make_cluster_context(const ServeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(auto key,
                           zmq::find_cluster_key({.flag_path = options.cluster.key_file,
                                                  .variable = variable(zmq::kClusterKeyVariable),
                                                  .home = variable("HOME")}));
  return zmq::Context::create({.key = std::move(key), .insecure = options.cluster.insecure});
}

uint32_t local_engine_count(const ServeOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  if (parallel.data_parallel_size_local) return *parallel.data_parallel_size_local;
  return parallel.data_parallel_rank ? 1 : parallel.data_parallel_size;
}

std::string control_endpoint(const ServeOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  const bool is_one_node = !parallel.headless && parallel.node_count == 1 &&
                           local_engine_count(options) == parallel.data_parallel_size;
  return tcp_endpoint(is_one_node ? "127.0.0.1" : parallel.data_parallel_address,
                      parallel.data_parallel_rpc_port);
}

std::string tcp_endpoint(const std::string& host, uint16_t port) {
  const bool is_bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return absl::StrFormat(is_bare_ipv6 ? "tcp://[%s]:%u" : "tcp://%s:%u", host, port);
}

}  // namespace trireme::member
