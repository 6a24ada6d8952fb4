// What a command line says about the cluster's shape. Pure.
//
//   internal balancing   one front node for all ranks; headless nodes add theirs
//   hybrid, external     every node has a front end for its own ranks; the node of rank 0 has the
//                        coordinator
#pragma once

#include <cstdint>
#include <string>

#include "common/options/serve_options.h"

namespace trireme::member {

// The engine ranks first, first + 1, ... of one node.
struct RankRange {
  uint32_t first = 0;
  uint32_t count = 0;
  [[nodiscard]] bool contains(uint32_t rank) const { return rank >= first && rank - first < count; }
  friend bool operator==(const RankRange&, const RankRange&) = default;
};

// --data-parallel-rank; or from --data-parallel-start-rank (0) on, --data-parallel-size-local (all
// that are left) of them.
[[nodiscard]] RankRange local_ranks(const ServeOptions& options);
// Those that a front end on this node sends requests to.
[[nodiscard]] RankRange served_ranks(const ServeOptions& options);
// Does the front node with this command line start the coordinator?
[[nodiscard]] bool starts_coordinator(const ServeOptions& options);
// Every rank of the cluster runs on this node.
[[nodiscard]] bool is_one_node(const ServeOptions& options);

// Where the coordinator is bound and found: --data-parallel-address, or loopback when every rank is
// on this node, so that a one-node cluster is never open to the network.
[[nodiscard]] std::string control_host(const ServeOptions& options);
// --data-parallel-rpc-port, or where the nodes of a cluster look without it. The launcher of one
// node takes any port then, and tells its children by the flag.
inline constexpr uint16_t kControlPortDefault = 29550;
[[nodiscard]] uint16_t control_port(const ServeOptions& options);
[[nodiscard]] std::string control_endpoint(const ServeOptions& options);
// "tcp://10.0.0.1:13345", IPv6 in brackets.
[[nodiscard]] std::string tcp_endpoint(const std::string& host, uint16_t port);

// Api-servers and launchers of several nodes have indices of their own.
inline constexpr uint32_t kApiServersPerNodeMax = 64;
inline constexpr uint32_t kLauncherIndexFirst = 1'000'000;
[[nodiscard]] uint32_t first_api_server_index(const ServeOptions& options);
[[nodiscard]] uint32_t launcher_index(const ServeOptions& options);

}  // namespace trireme::member
