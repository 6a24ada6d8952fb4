// ExpertPlacement: at which members of a wave the experts of a layer are. Pure.
//
//   at_home(...)               each at its home, one of the places that there can be: neighbouring
//                              experts in nearly equal parts, expert e of E at place
//                              floor(e · places / E). Those whose home is no member are dealt out
//                              in turn: the loss of a place moves no expert but its own
//   place_experts(loads, ...)  by load; the busiest are at several members
//
// Who has an expert computes its own rows for it. The others are dealt out to those that have it,
// in the order of both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
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
  // `members`: places, ascending, at least one, of `place_count`.
  [[nodiscard]] static ExpertPlacement at_home(uint32_t expert_count,
                                               std::span<const uint32_t> members,
                                               uint32_t place_count);
  // At home, every place being a member.
  ExpertPlacement(uint32_t expert_count, uint32_t member_count);
  // By expert the members that have it: ascending, at least one.
  ExpertPlacement(uint32_t member_count, std::span<const std::vector<uint32_t>> members);

  [[nodiscard]] uint32_t expert_count() const { return static_cast<uint32_t>(begins_.size() - 1); }
  [[nodiscard]] uint32_t member_count() const { return member_count_; }
  [[nodiscard]] std::span<const uint32_t> members_of(uint32_t expert) const {
    return std::span(members_).subspan(begins_[expert], begins_[expert + 1] - begins_[expert]);
  }
  // Where the rows of member `source` go.
  [[nodiscard]] uint32_t member_for(uint32_t expert, uint32_t source) const {
    const std::span<const uint32_t> members = members_of(expert);
    if (members.size() == 1) return members.front();
    const auto at = std::ranges::lower_bound(members, source);
    if (at != members.end() && *at == source) return source;
    const auto before = static_cast<uint32_t>(at - members.begin());
    return members[(source - before) % members.size()];
  }
  // May `member` be sent rows for it?
  [[nodiscard]] bool is_at(uint32_t expert, uint32_t member) const {
    return expert < expert_count() && std::ranges::binary_search(members_of(expert), member);
  }
  friend bool operator==(const ExpertPlacement&, const ExpertPlacement&) = default;

 private:
  uint32_t member_count_ = 1;
  std::vector<uint32_t> begins_{0};  // By expert, into the next; and the end.
  std::vector<uint32_t> members_;
};

// Has that member the expert's weights in memory? None: all have all.
using IsInMemory = std::function<bool(uint32_t expert, uint32_t member)>;

// As deepseek-ai/EPLB does within one group: `redundant_count` more replicas, each of the expert
// whose replicas have the most to do then; and replicas, the heaviest first, to the member with the
// least to do that has not that expert and has a slot left, of which all have equally many; or to
// one that has little more to do (kPreferencePart of what all have to do on average), but has the
// weights in memory where the other has not. What is equal goes by index. An expert is once at a
// member: replicas beyond that are not made, and one that finds no slot is left out.
inline constexpr uint64_t kPreferencePart = 16;
[[nodiscard]] ExpertPlacement place_experts(std::span<const uint64_t> loads, uint32_t member_count,
                                            uint32_t redundant_count,
                                            const IsInMemory& is_in_memory = nullptr);

// `placement`, but experts for which `moves` says so are where `next` has them.
[[nodiscard]] ExpertPlacement moved(const ExpertPlacement& placement, const ExpertPlacement& next,
                                    const std::function<bool(uint32_t expert)>& moves);

// What the member with the most has to do, where replicas share equally.
[[nodiscard]] uint64_t busiest_load(const ExpertPlacement& placement,
                                    std::span<const uint64_t> loads);

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
