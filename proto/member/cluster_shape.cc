#include "proto/member/cluster_shape.h"

#include <algorithm>

#include "common/status.h"

namespace trireme::member {
namespace {

bool has_one_front(const ServeOptions& options) {
  return options.parallel.load_balancing == LoadBalancing::kInternal;
}

}  // namespace

RankRange local_ranks(const ServeOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  if (parallel.data_parallel_rank) return {.first = *parallel.data_parallel_rank, .count = 1};
  const uint32_t first = parallel.data_parallel_start_rank.value_or(0);
  const uint32_t left = parallel.data_parallel_size - std::min(first, parallel.data_parallel_size);
  return {.first = first, .count = parallel.data_parallel_size_local.value_or(left)};
}

RankRange served_ranks(const ServeOptions& options) {
  if (!has_one_front(options)) return local_ranks(options);
  return {.first = 0, .count = options.parallel.data_parallel_size};
}

bool starts_coordinator(const ServeOptions& options) {
  return has_one_front(options) || local_ranks(options).first == 0;
}

bool is_one_node(const ServeOptions& options) {
  return !options.parallel.headless && options.parallel.node_count == 1 &&
         local_ranks(options) == RankRange{0, options.parallel.data_parallel_size};
}

std::string control_host(const ServeOptions& options) {
  return is_one_node(options) ? "127.0.0.1" : options.parallel.data_parallel_address;
}

uint16_t control_port(const ServeOptions& options) {
  return options.parallel.data_parallel_rpc_port.value_or(kControlPortDefault);
}

std::string control_endpoint(const ServeOptions& options) {
  return tcp_endpoint(control_host(options), control_port(options));
}

std::string tcp_endpoint(const std::string& host, uint16_t port) {
  const bool is_bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return absl::StrFormat(is_bare_ipv6 ? "tcp://[%s]:%u" : "tcp://%s:%u", host, port);
}

uint32_t first_api_server_index(const ServeOptions& options) {
  return has_one_front(options) ? 0 : local_ranks(options).first * kApiServersPerNodeMax;
}

uint32_t launcher_index(const ServeOptions& options) {
  return kLauncherIndexFirst + (has_one_front(options) ? 0 : local_ranks(options).first);
}

}  // namespace trireme::member
