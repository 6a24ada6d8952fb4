// The process tree of the front node and the ranks of the others, as text. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "proto/member/cluster_shape.h"
#include "proto/membership.h"

namespace trireme::api {

struct TreeFacts {
  uint32_t launcher_pid = 0;
  uint32_t coordinator_pid = 0;  // 0: on another node.
  uint32_t node_agent_pid = 0;   // 0: none here.
  std::string control_address;   // "127.0.0.1:29550"
  std::string http_address;      // "0.0.0.0:8000"
  std::string node;              // This one's host name, as in the view.
  member::RankRange local;       // Ranks below the node agent.
};

//   launcher        4700  http 0.0.0.0:8000
//   ├ coordinator   4701  control 127.0.0.1:29550
//   ├ api-server 0  4702  requests tcp://127.0.0.1:40001
//   └ node agent    4703
//     ├ rank 0      4704  workers 4706
//     └ rank 1      4705  workers 4707
//   node-b
//   └ rank 2        1200  workers 1201 1202
[[nodiscard]] std::string process_tree(const TreeFacts& facts, const wire::View& view);

// A line that works in a shell: asks the server for a completion.
[[nodiscard]] std::string curl_line(const std::string& reach_at, bool has_tls, bool needs_key,
                                    const std::string& model);

}  // namespace trireme::api
