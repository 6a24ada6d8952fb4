// ExpertPlacement: which member of a wave has which experts of a layer. Pure.
//
// Every expert has a home among the places that there can be: neighbouring experts in nearly equal
// parts, expert e of E at place floor(e · places / E). While its home is a member it is there;
// experts without one are dealt out to the members in turn. So the loss of a place moves no expert
// but its own.
// Another placement, with experts at several members, answers the same two questions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace trireme::worker {

[[nodiscard]] constexpr uint32_t home_of_expert(uint32_t expert, uint32_t expert_count,
                                                uint32_t place_count) {
  return static_cast<uint32_t>(uint64_t{expert} * place_count / expert_count);
}

class ExpertPlacement {
 public:
  ExpertPlacement() = default;
  // `members`: places, ascending, of `place_count`.
  ExpertPlacement(uint32_t expert_count, std::span<const uint32_t> members, uint32_t place_count) {
    uint32_t next = 0;
    for (uint32_t expert = 0; expert < expert_count; ++expert) {
      const uint32_t home = home_of_expert(expert, expert_count, place_count);
      const auto at = std::ranges::lower_bound(members, home);
      const bool is_home = at != members.end() && *at == home;
      const auto count = static_cast<uint32_t>(members.size());
      member_of_.push_back(is_home ? static_cast<uint32_t>(at - members.begin()) : next++ % count);
    }
  }

  // Where the rows of member `source` go.
  [[nodiscard]] uint32_t member_for(uint32_t expert, uint32_t /*source*/) const {
    return member_of_[expert];
  }
  // May `member` be sent rows for it?
  [[nodiscard]] bool is_at(uint32_t expert, uint32_t member) const {
    return expert < member_of_.size() && member_of_[expert] == member;
  }

 private:
  std::vector<uint32_t> member_of_;
};

// What a worker has in memory from the start: the experts whose home is its own place, or that of
// the worker of another rank of this node that shares its weights: of the same place in the model.
struct ExpertHome {
  uint32_t place_count = 1;  // Places: rank · tp_size + tp_rank.
  uint32_t tp_size = 1;
  uint32_t tp_rank = 0;
  uint32_t first_rank = 0;  // Of the node.
  uint32_t rank_count = 1;

  [[nodiscard]] constexpr bool has(uint32_t expert, uint32_t expert_count) const {
    const uint32_t home = home_of_expert(expert, expert_count, place_count);
    const uint32_t rank = home / tp_size;
    return home % tp_size == tp_rank && rank >= first_rank && rank - first_rank < rank_count;
  }
};

}  // namespace trireme::worker
