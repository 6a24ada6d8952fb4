#include "proto/member/view_text.h"

#include "common/status.h"

namespace trireme::member {
namespace {

using wire::MemberState;
using wire::Role;

std::string facts_of(const wire::Member& member) {
  std::string text = absl::StrFormat("pid %u", member.pid);
  if (!member.ready.worker_pids.empty()) {
    text += member.ready.worker_pids.size() == 1 ? ", worker" : ", workers";
    for (const uint32_t pid : member.ready.worker_pids) text += absl::StrFormat(" %u", pid);
  }
  if (member.state == MemberState::kReady && member.ready.block_count > 0) {
    text += absl::StrFormat(", %u blocks of %u tokens", member.ready.block_count,
                            member.ready.block_tokens);
  }
  if (member.restarts > 0) text += absl::StrFormat(", restart %u", member.restarts);
  return text;
}

std::string line_of(const wire::Member& member) {
  switch (member.state) {
    case MemberState::kStarting:
      return absl::StrFormat("%s: loading (%s)", title_of(member), facts_of(member));
    case MemberState::kReady:
      return absl::StrFormat("%s: ready (%s)", title_of(member), facts_of(member));
    case MemberState::kDraining:
      return absl::StrFormat("%s: draining (%s)", title_of(member), facts_of(member));
    case MemberState::kLost:
      if (member.reason.starts_with("left")) return title_of(member) + ": " + member.reason;
      return absl::StrFormat("%s: lost: %s", title_of(member), member.reason);
  }
  return title_of(member);
}

}  // namespace

std::string title_of(const wire::Member& member) {
  const char* const role = member.role == Role::kEngine      ? "rank"
                           : member.role == Role::kApiServer ? "api-server"
                                                             : "node agent";
  return absl::StrFormat("%s %u", role, member.index);
}

std::vector<std::string> changes_between(const wire::View& before, const wire::View& after) {
  std::vector<std::string> lines;
  for (const wire::Member& member : after.members) {
    if (member.role == Role::kNodeAgent) continue;
    const wire::Member* const old = find_member(before, member.role, member.index);
    const bool is_same =
        old != nullptr && old->incarnation == member.incarnation && old->state == member.state;
    if (!is_same) lines.push_back(line_of(member));
  }
  return lines;
}

const wire::Member* find_member(const wire::View& view, Role role, uint32_t index) {
  for (const wire::Member& member : view.members) {
    if (member.role == role && member.index == index) return &member;
  }
  return nullptr;
}

}  // namespace trireme::member
