// Goal: every expert is somewhere, nobody has more slots than its share, and the busiest member has
// little more to do than the others. Method: small tables by hand, random ones by their rules.
#include "worker/comm/expert_placement.h"

#include <gtest/gtest.h>

#include <numeric>

#include "common/random.h"

namespace trireme::worker {
namespace {

TEST(ExpertPlacement, parts_are_neighbours_and_nearly_equal) {
  for (const uint32_t experts : {1U, 7U, 8U, 60U, 256U}) {
    for (const uint32_t members : {1U, 2U, 3U, 8U, 13U}) {
      const ExpertPlacement placement{experts, members};
      std::vector<uint32_t> counts(members);
      uint32_t last = 0;
      for (uint32_t expert = 0; expert < experts; ++expert) {
        const uint32_t member = placement.member_for(expert, 0);
        ASSERT_LT(member, members);
        EXPECT_GE(member, last);
        EXPECT_TRUE(placement.is_at(expert, member));
        last = member;
        ++counts[member];
      }
      const auto [least, most] = std::ranges::minmax(counts);
      EXPECT_LE(most - least, 1U) << experts << " over " << members;
      EXPECT_FALSE(placement.is_at(experts, members - 1));
    }
  }
}

TEST(ExpertPlacement, the_loss_of_a_place_moves_its_own_experts_alone_in_equal_parts) {
  const std::vector<uint32_t> all = {0, 1, 2, 3};
  const std::vector<uint32_t> left = {0, 1, 3};
  const auto before = ExpertPlacement::at_home(64, all, 4);
  const auto after = ExpertPlacement::at_home(64, left, 4);
  std::vector<uint32_t> taken_over(3);
  for (uint32_t expert = 0; expert < 64; ++expert) {
    const uint32_t now = after.member_for(expert, 0);
    if (before.member_for(expert, 0) == 2) {
      ++taken_over[now];
    } else {
      EXPECT_EQ(left[now], all[before.member_for(expert, 0)]);
    }
  }
  EXPECT_EQ(taken_over, (std::vector<uint32_t>{6, 5, 5}));
}

TEST(ExpertHome, the_nodes_of_a_cluster_have_every_expert_once_for_each_place_in_the_model) {
  constexpr uint32_t kTp = 2;
  constexpr uint32_t kRanks = 4;
  for (uint32_t expert = 0; expert < 30; ++expert) {
    uint32_t holders = 0;
    for (const uint32_t first : {0U, 1U, 2U}) {  // Nodes of one, one and two ranks.
      for (uint32_t tp_rank = 0; tp_rank < kTp; ++tp_rank) {
        const ExpertHome home{.place_count = kTp * kRanks,
                              .tp_size = kTp,
                              .tp_rank = tp_rank,
                              .first_rank = first,
                              .rank_count = first == 2 ? 2U : 1U};
        holders += home.has(expert, 30) ? 1 : 0;
      }
    }
    EXPECT_EQ(holders, 1U) << expert;
  }
  EXPECT_TRUE(ExpertHome().has(29, 30)) << "who divides with nobody has all";
}

TEST(ExpertPlacement, who_has_an_expert_keeps_its_rows_and_the_others_are_dealt_out) {
  const std::vector<std::vector<uint32_t>> members = {{0, 2}, {3}, {1, 2, 3, 4}};
  const ExpertPlacement placement(5, members);
  const auto all = [&](uint32_t expert) {
    std::vector<uint32_t> to;
    for (uint32_t source = 0; source < 5; ++source) {
      to.push_back(placement.member_for(expert, source));
    }
    return to;
  };
  EXPECT_EQ(all(0), (std::vector<uint32_t>{0, 0, 2, 2, 0}));
  EXPECT_EQ(all(1), (std::vector<uint32_t>{3, 3, 3, 3, 3}));
  EXPECT_EQ(all(2), (std::vector<uint32_t>{1, 1, 2, 3, 4}));
  EXPECT_TRUE(placement.is_at(0, 2));
  EXPECT_FALSE(placement.is_at(0, 1));
  EXPECT_FALSE(placement.is_at(3, 0)) << "there is no such expert";
}

std::vector<std::vector<uint32_t>> members_of(const ExpertPlacement& placement) {
  std::vector<std::vector<uint32_t>> all;
  for (uint32_t expert = 0; expert < placement.expert_count(); ++expert) {
    const auto members = placement.members_of(expert);
    all.emplace_back(members.begin(), members.end());
  }
  return all;
}

TEST(PlaceExperts, the_busiest_is_at_two_members_and_the_rest_fills_up) {
  const std::vector<uint64_t> loads = {100, 1, 1, 1};
  EXPECT_EQ(members_of(place_experts(loads, 2, 1)),
            (std::vector<std::vector<uint32_t>>{{0, 1}, {0}, {1}, {0}}));
  EXPECT_EQ(members_of(place_experts(loads, 2, 0)),
            (std::vector<std::vector<uint32_t>>{{0}, {1}, {1}, {0}}))
      << "as many slots each";
}

TEST(PlaceExperts, who_has_the_weights_is_preferred_where_little_is_lost) {
  Random random(5);
  uint64_t loads_without = 0;
  uint64_t loads_with = 0;
  for (int i = 0; i < 500; ++i) {
    constexpr uint32_t kExperts = 32;
    const auto is_in_memory = [](uint32_t expert, uint32_t member) {
      return expert * 2 / kExperts == member / 2;  // Two nodes of two members.
    };
    std::vector<uint64_t> loads(kExperts);
    for (uint64_t& load : loads) load = 1000 + random.below(1000);
    const auto count_loads = [&](const ExpertPlacement& placement) {
      uint64_t count = 0;
      for (uint32_t expert = 0; expert < kExperts; ++expert) {
        for (const uint32_t at : placement.members_of(expert)) {
          count += is_in_memory(expert, at) ? 0 : 1;
        }
      }
      return count;
    };
    const ExpertPlacement anywhere = place_experts(loads, 4, 4);
    const ExpertPlacement near = place_experts(loads, 4, 4, is_in_memory);
    loads_without += count_loads(anywhere);
    loads_with += count_loads(near);
    const uint64_t mean = std::accumulate(loads.begin(), loads.end(), uint64_t{0}) / 4;
    EXPECT_LE(busiest_load(near, loads),
              busiest_load(anywhere, loads) + 2 * mean / kPreferencePart);
    EXPECT_EQ(place_experts(loads, 4, 4, [](uint32_t, uint32_t) { return true; }), anywhere);
  }
  EXPECT_LT(2 * loads_with, loads_without);
}

TEST(PlaceExperts, what_is_equal_goes_by_index) {
  const std::vector<uint64_t> loads(4, 6);
  EXPECT_EQ(members_of(place_experts(loads, 4, 2)),
            (std::vector<std::vector<uint32_t>>{{2, 3}, {2, 3}, {0}, {1}}));
}

TEST(PlaceExperts, more_replicas_than_members_are_not_made) {
  const std::vector<uint64_t> loads = {9, 0, 4};
  for (const uint32_t redundant : {6U, 7U, 1000U}) {
    EXPECT_EQ(members_of(place_experts(loads, 3, redundant)),
              (std::vector<std::vector<uint32_t>>(3, {0, 1, 2})));
  }
  EXPECT_EQ(members_of(place_experts(loads, 1, 5)), (std::vector<std::vector<uint32_t>>(3, {0})));
}

// Most of it on a few experts.
std::vector<uint64_t> skewed_loads(Random& random, uint32_t experts) {
  std::vector<uint64_t> loads(experts);
  for (uint64_t& load : loads) load = random.below(1 + (1000 >> random.below(10)));
  return loads;
}

TEST(PlaceExperts, every_expert_is_somewhere_and_nobody_has_more_slots_than_its_share) {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const auto experts = static_cast<uint32_t>(1 + random.below(40));
    const auto members = static_cast<uint32_t>(1 + random.below(9));
    const auto redundant = static_cast<uint32_t>(random.below(30));
    const auto placement = place_experts(skewed_loads(random, experts), members, redundant);
    ASSERT_EQ(placement.expert_count(), experts);
    const uint32_t replicas = experts + std::min(redundant, experts * (members - 1));
    std::vector<uint32_t> slots(members);
    for (const auto& of_expert : members_of(placement)) {
      ASSERT_FALSE(of_expert.empty());
      ASSERT_TRUE(std::ranges::is_sorted(of_expert));
      ASSERT_EQ(std::ranges::adjacent_find(of_expert), of_expert.end());
      for (const uint32_t member : of_expert) ++slots.at(member);
    }
    EXPECT_LE(std::ranges::max(slots), (replicas + members - 1) / members);
    EXPECT_LE(std::accumulate(slots.begin(), slots.end(), 0U), replicas);
  }
}

TEST(PlaceExperts, the_busiest_member_has_little_more_than_the_mean) {
  for (const uint32_t members : {2U, 4U, 8U, 16U}) {
    std::vector<uint64_t> loads(128);  // The k-th has a k-th of the first.
    for (uint32_t expert = 0; expert < 128; ++expert) loads[expert] = 100'000 / (expert + 1);
    const uint64_t mean = std::accumulate(loads.begin(), loads.end(), uint64_t{0}) / members;
    const uint64_t parts = busiest_load(ExpertPlacement(128, members), loads);
    const uint64_t placed = busiest_load(place_experts(loads, members, 16), loads);
    EXPECT_GT(parts, mean + mean / 2) << members;
    EXPECT_LT(placed, mean + mean / 20) << members;
  }
}

}  // namespace
}  // namespace trireme::worker
