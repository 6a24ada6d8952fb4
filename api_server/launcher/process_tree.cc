#include "api_server/launcher/process_tree.h"

#include <vector>

#include "common/status.h"
#include "proto/member/view_text.h"

namespace trireme::api {
namespace {

using wire::Role;

struct Row {
  std::string title;
  uint32_t pid = 0;
  std::string about;
  std::vector<Row> below;
};

Row rank_row(const wire::Member& member) {
  Row row{.title = member::title_of(member), .pid = member.pid};
  for (const uint32_t pid : member.ready.worker_pids) {
    row.about += absl::StrFormat(row.about.empty() ? "workers %u" : " %u", pid);
  }
  if (member.restarts > 0) {
    row.about +=
        absl::StrFormat(row.about.empty() ? "restarts %u" : "  restarts %u", member.restarts);
  }
  return row;
}

Row server_row(const wire::Member& member) {
  Row row{.title = member::title_of(member), .pid = member.pid};
  for (const std::string& address : member.ready.addresses) {
    row.about += (row.about.empty() ? "requests " : " ") + address;
  }
  return row;
}

Row front_node(const TreeFacts& facts, const wire::View& view) {
  Row launcher{
      .title = "launcher", .pid = facts.launcher_pid, .about = "http " + facts.http_address};
  if (facts.coordinator_pid != 0) {
    launcher.below.push_back({.title = "coordinator",
                              .pid = facts.coordinator_pid,
                              .about = "control " + facts.control_address});
  }
  Row agent{.title = "node agent", .pid = facts.node_agent_pid};
  for (const wire::Member& member : view.members) {
    if (member.state == wire::MemberState::kLost || member.node != facts.node) continue;
    if (member.role == Role::kApiServer) launcher.below.push_back(server_row(member));
    if (member.role == Role::kEngine && facts.local.contains(member.index)) {
      agent.below.push_back(rank_row(member));
    }
  }
  if (agent.pid != 0) launcher.below.push_back(std::move(agent));
  return launcher;
}

std::vector<Row> other_nodes(const TreeFacts& facts, const wire::View& view) {
  std::vector<Row> nodes;
  for (const wire::Member& member : view.members) {
    const bool is_here = member.node == facts.node && facts.local.contains(member.index);
    if (member.role != Role::kEngine || member.state == wire::MemberState::kLost || is_here) {
      continue;
    }
    const bool is_new = nodes.empty() || nodes.back().title != member.node;
    if (is_new) nodes.push_back({.title = member.node});
    nodes.back().below.push_back(rank_row(member));
  }
  return nodes;
}

// Characters, not bytes: the branches are three bytes each.
void pad(std::string& line, std::size_t width) {
  std::size_t columns = 0;
  for (const char c : line) columns += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  if (columns < width) line.append(width - columns, ' ');
}

void append(std::string& text, const Row& row, const std::string& branch,
            const std::string& indent) {
  constexpr std::size_t kPidColumn = 18;
  std::string line = branch + row.title;
  if (row.pid != 0) {
    pad(line, kPidColumn);
    line += absl::StrFormat("%8u", row.pid);
  }
  if (!row.about.empty()) line += "  " + row.about;
  text += "  " + line + "\n";
  for (const Row& below : row.below) {
    const bool is_last = &below == &row.below.back();
    append(text, below, indent + (is_last ? "└ " : "├ "), indent + (is_last ? "  " : "│ "));
  }
}

}  // namespace

std::string process_tree(const TreeFacts& facts, const wire::View& view) {
  std::string text;
  append(text, front_node(facts, view), "", "");
  for (const Row& node : other_nodes(facts, view)) append(text, node, "", "");
  return text;
}

std::string curl_line(const std::string& reach_at, bool has_tls, bool needs_key,
                      const std::string& model) {
  return absl::StrFormat(
      "curl %s%s://%s/v1/completions -H 'Content-Type: application/json'%s -d "
      "'{\"model\": \"%s\", \"prompt\": \"The capital of France is\", \"max_tokens\": 8, "
      "\"temperature\": 0}'",
      has_tls ? "-k " : "", has_tls ? "https" : "http", reach_at,
      needs_key ? " -H \"Authorization: Bearer $API_KEY\"" : "", model);
}

}  // namespace trireme::api
