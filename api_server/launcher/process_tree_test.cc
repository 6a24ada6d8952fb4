// Tests of the process tree as text.
#include "api_server/launcher/process_tree.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

using wire::MemberState;
using wire::Role;

TEST(ProcessTree, shows_both_nodes_with_ranks_pids_and_ports) {
  wire::View view;
  view.members = {
      {.role = Role::kEngine, .index = 0, .state = MemberState::kReady, .node = "b", .pid = 1200},
      {.role = Role::kEngine, .index = 1, .state = MemberState::kLost, .node = "b", .pid = 1201},
      {.role = Role::kEngine, .index = 2, .state = MemberState::kReady, .node = "a", .pid = 4704},
      {.role = Role::kEngine, .index = 3, .state = MemberState::kReady, .node = "a", .pid = 4705},
      {.role = Role::kApiServer,
       .index = 0,
       .state = MemberState::kReady,
       .node = "a",
       .pid = 4702},
  };
  view.members[2].ready.worker_pids = {4706, 4707};
  view.members[3].restarts = 2;
  view.members[4].ready.addresses = {"tcp://10.0.0.1:40001"};
  const TreeFacts facts{.launcher_pid = 4700,
                        .coordinator_pid = 4701,
                        .node_agent_pid = 4703,
                        .control_address = "10.0.0.1:13345",
                        .http_address = "0.0.0.0:8000",
                        .node = "a",
                        .local = {2, 2}};
  EXPECT_EQ(process_tree(facts, view),
            "  launcher              4700  http 0.0.0.0:8000\n"
            "  ├ coordinator         4701  control 10.0.0.1:13345\n"
            "  ├ api-server 0        4702  requests tcp://10.0.0.1:40001\n"
            "  └ node agent          4703\n"
            "    ├ rank 2            4704  workers 4706 4707\n"
            "    └ rank 3            4705  restarts 2\n"
            "  b\n"
            "  └ rank 0              1200\n");
}

TEST(ProcessTree, curl_line_asks_for_what_the_server_wants) {
  EXPECT_EQ(curl_line("127.0.0.1:8000", false, false, "demo"),
            "curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d "
            "'{\"model\": \"demo\", \"prompt\": \"The capital of France is\", \"max_tokens\": 8, "
            "\"temperature\": 0}'");
  EXPECT_NE(curl_line("127.0.0.1:8000", true, true, "demo").find("-k https://"), std::string::npos);
}

}  // namespace
}  // namespace trireme::api
