#include "worker/comm/expert_placement.h"

#include <numeric>
#include <optional>
#include <tuple>

namespace trireme::worker {
namespace {

std::vector<uint32_t> count_replicas(std::span<const uint64_t> loads, uint32_t member_count,
                                     uint32_t redundant_count) {
  std::vector<uint32_t> counts(loads.size(), 1);
  const auto has_less_to_do = [&](uint32_t a, uint32_t b) {
    const uint64_t of_a = loads[a] * counts[b];
    const uint64_t of_b = loads[b] * counts[a];
    return of_a != of_b ? of_a < of_b : a > b;
  };
  std::vector<uint32_t> heap(member_count > 1 ? loads.size() : 0);
  std::iota(heap.begin(), heap.end(), 0U);
  std::ranges::make_heap(heap, has_less_to_do);
  for (; redundant_count > 0 && !heap.empty(); --redundant_count) {
    std::ranges::pop_heap(heap, has_less_to_do);
    if (++counts[heap.back()] < member_count) {
      std::ranges::push_heap(heap, has_less_to_do);
    } else {
      heap.pop_back();
    }
  }
  return counts;
}

struct Replica {
  uint64_t load;
  uint32_t expert;
};

// Those of one expert are neighbours.
std::vector<Replica> heaviest_first(std::span<const uint64_t> loads,
                                    std::span<const uint32_t> counts) {
  std::vector<Replica> replicas;
  for (uint32_t expert = 0; expert < loads.size(); ++expert) {
    replicas.insert(replicas.end(), counts[expert], {loads[expert] / counts[expert], expert});
  }
  std::ranges::stable_sort(replicas, std::ranges::greater(), &Replica::load);
  return replicas;
}

struct Member {
  uint64_t load = 0;
  uint32_t slots_taken = 0;
};

// The one with the least to do of those that may have it.
template <typename MayHave>
std::optional<uint32_t> find_idlest(std::span<const Member> members, const MayHave& may_have) {
  std::optional<uint32_t> best;
  const auto rank = [&](uint32_t of) {
    return std::tuple(members[of].load, members[of].slots_taken);
  };
  for (uint32_t i = 0; i < members.size(); ++i) {
    if (may_have(i) && (!best || rank(i) < rank(*best))) best = i;
  }
  return best;
}

}  // namespace

ExpertPlacement ExpertPlacement::at_home(uint32_t expert_count, std::span<const uint32_t> members,
                                         uint32_t place_count) {
  const auto count = static_cast<uint32_t>(members.size());
  ExpertPlacement placement(expert_count, count);
  uint32_t next = 0;
  for (uint32_t expert = 0; expert < expert_count; ++expert) {
    const uint32_t home = home_of_expert(expert, expert_count, place_count);
    const auto at = std::ranges::lower_bound(members, home);
    const bool is_member = at != members.end() && *at == home;
    placement.members_[expert] =
        is_member ? static_cast<uint32_t>(at - members.begin()) : next++ % count;
  }
  return placement;
}

ExpertPlacement::ExpertPlacement(uint32_t expert_count, uint32_t member_count)
    : member_count_(member_count), begins_(expert_count + 1), members_(expert_count) {
  std::iota(begins_.begin(), begins_.end(), 0U);
  for (uint32_t expert = 0; expert < expert_count; ++expert) {
    members_[expert] = home_of_expert(expert, expert_count, member_count);
  }
}

ExpertPlacement::ExpertPlacement(uint32_t member_count,
                                 std::span<const std::vector<uint32_t>> members)
    : member_count_(member_count) {
  for (const std::vector<uint32_t>& of_expert : members) {
    members_.insert(members_.end(), of_expert.begin(), of_expert.end());
    begins_.push_back(static_cast<uint32_t>(members_.size()));
  }
}

ExpertPlacement place_experts(std::span<const uint64_t> loads, uint32_t member_count,
                              uint32_t redundant_count, const IsInMemory& is_in_memory) {
  const std::vector<uint32_t> counts = count_replicas(loads, member_count, redundant_count);
  const std::vector<Replica> replicas = heaviest_first(loads, counts);
  const std::size_t slots = (replicas.size() + member_count - 1) / member_count;
  const uint64_t all = std::accumulate(loads.begin(), loads.end(), uint64_t{0});
  const uint64_t little = all / member_count / kPreferencePart;
  std::vector<Member> members(member_count);
  std::vector<std::vector<uint32_t>> places(loads.size());
  for (const Replica& replica : replicas) {
    std::vector<uint32_t>& taken = places[replica.expert];
    const auto has_room = [&](uint32_t i) {
      return members[i].slots_taken < slots && std::ranges::find(taken, i) == taken.end();
    };
    std::optional<uint32_t> best = find_idlest(members, has_room);
    if (!best) continue;
    if (is_in_memory && !is_in_memory(replica.expert, *best)) {
      const uint64_t load_max = members[*best].load + little;
      const auto near = find_idlest(members, [&](uint32_t i) {
        return has_room(i) && members[i].load <= load_max && is_in_memory(replica.expert, i);
      });
      if (near) best = near;
    }
    members[*best].load += replica.load;
    ++members[*best].slots_taken;
    taken.push_back(*best);
  }
  for (std::vector<uint32_t>& of_expert : places) std::ranges::sort(of_expert);
  return {member_count, places};
}

ExpertPlacement moved(const ExpertPlacement& placement, const ExpertPlacement& next,
                      const std::function<bool(uint32_t expert)>& moves) {
  std::vector<std::vector<uint32_t>> places(placement.expert_count());
  for (uint32_t expert = 0; expert < places.size(); ++expert) {
    const auto members = (moves(expert) ? next : placement).members_of(expert);
    places[expert].assign(members.begin(), members.end());
  }
  return {placement.member_count(), places};
}

uint64_t busiest_load(const ExpertPlacement& placement, std::span<const uint64_t> loads) {
  std::vector<uint64_t> of_members(placement.member_count());
  for (uint32_t expert = 0; expert < loads.size(); ++expert) {
    const std::span<const uint32_t> members = placement.members_of(expert);
    for (const uint32_t member : members) of_members[member] += loads[expert] / members.size();
  }
  return std::ranges::max(of_members);
}

}  // namespace trireme::worker
