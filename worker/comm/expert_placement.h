// ExpertPlacement: which member of a wave has which experts of a layer. Pure.
//
// Neighbouring experts in nearly equal parts: expert e of E is at member floor(e · n / E) of n.
// Another placement, with experts at several members, answers the same two questions.
#pragma once

#include <cstdint>

namespace trireme::worker {

struct ExpertPlacement {
  uint32_t expert_count = 0;
  uint32_t member_count = 1;

  // Where the rows of member `source` go.
  [[nodiscard]] constexpr uint32_t member_for(uint32_t expert, uint32_t /*source*/) const {
    return static_cast<uint32_t>(uint64_t{expert} * member_count / expert_count);
  }
  // May `member` be sent rows for it?
  [[nodiscard]] constexpr bool is_at(uint32_t expert, uint32_t member) const {
    return expert < expert_count && member_for(expert, member) == member;
  }
};

}  // namespace trireme::worker
