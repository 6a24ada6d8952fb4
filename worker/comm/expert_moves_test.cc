// Goal: experts that somebody has to load come to their members a few in a forward, the same ones
// for all members, and every expert is at one place meanwhile: where it was or where it is wanted.
// Method: balancers of all members side by side with random loads, nodes and bounds, their tables
// carried by hand; what a member loads or gives back is noted as a device would do.
#include <gtest/gtest.h>

#include <memory>

#include "common/random.h"
#include "worker/comm/expert_balancer.h"

namespace trireme::worker {
namespace {

class Cluster {
 public:
  Cluster(const BalancerConfig& config, uint32_t members, uint32_t node_ranks)
      : config_(config), loads_(config.layer_count, std::vector<uint32_t>(config.expert_count)) {
    for (uint32_t i = 0; i < members; ++i) {
      homes_.push_back({.place_count = members,
                        .first_rank = i / node_ranks * node_ranks,
                        .rank_count = node_ranks});
      all_.push_back(std::make_unique<ExpertBalancer>(config, homes_.back()));
      loaded_.emplace_back(config.layer_count, std::vector<bool>(config.expert_count));
    }
    join();
  }

  void join() {
    for (uint32_t i = 0; i < all_.size(); ++i) {
      all_[i]->join(ExpertPlacement(config_.expert_count, size()), i);
    }
  }
  void draw_loads(Random& random) {
    for (auto& of_layer : loads_) {
      for (uint32_t& load : of_layer) {
        load = static_cast<uint32_t>(random.below(1 + (60 >> random.below(6))));
      }
    }
  }

  // Ends with what it looked like; then rows are counted, and experts loaded and given back.
  void run_forward() {
    const bool is_due = all_.front()->begin_forward();
    for (uint32_t i = 1; i < size(); ++i) EXPECT_EQ(all_[i]->begin_forward(), is_due);
    if (is_due) agree();
    const auto before = is_due ? std::vector<ExpertPlacement>() : placements();
    for (const auto& balancer : all_) made_ = balancer->move_experts().size();
    EXPECT_LE(made_, config_.moves_per_step);
    if (!is_due) expect_only_moves_from(before);
    expect_agreed();
    load_and_give_back();
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
        for (uint32_t row = 0; row < loads_[layer][expert]; ++row) {
          all_[row % size()]->count_routed(layer, expert);
        }
      }
    }
  }

  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(all_.size()); }
  [[nodiscard]] const ExpertBalancer& of(uint32_t member) const { return *all_[member]; }
  [[nodiscard]] std::vector<ExpertPlacement> placements() const {
    std::vector<ExpertPlacement> all;
    for (uint32_t i = 0; i < config_.layer_count; ++i) all.push_back(of(0).placement(i));
    return all;
  }
  [[nodiscard]] bool has_arrived() const {
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      if (of(0).placement(layer) != of(0).wanted(layer)) return false;
    }
    return true;
  }
  uint32_t loads_of_forward = 0;  // Experts that were loaded by somebody.
  uint64_t loads_in_all = 0;

 private:
  void agree() const {
    const std::size_t each = of(0).table_size();
    std::vector<uint32_t> tables(size() * each);
    for (uint32_t i = 0; i < size(); ++i) {
      of(i).write_table(std::span(tables).subspan(i * each, each));
    }
    for (const auto& balancer : all_) balancer->rebalance(tables);
  }

  void expect_agreed() const {
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      const ExpertPlacement& placement = of(0).placement(layer);
      for (uint32_t i = 1; i < size(); ++i) {
        EXPECT_EQ(of(i).placement(layer), placement) << "two placements at once";
        EXPECT_EQ(of(i).wanted(layer), of(0).wanted(layer));
        EXPECT_EQ(of(i).moves_to_come(), of(0).moves_to_come());
      }
      for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
        EXPECT_FALSE(placement.members_of(expert).empty()) << expert;
      }
    }
  }

  void expect_only_moves_from(const std::vector<ExpertPlacement>& before) const {
    uint32_t moved_count = 0;
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
        const auto now = of(0).placement(layer).members_of(expert);
        if (std::ranges::equal(now, before[layer].members_of(expert))) continue;
        EXPECT_TRUE(std::ranges::equal(now, of(0).wanted(layer).members_of(expert)));
        ++moved_count;
      }
    }
    EXPECT_EQ(moved_count, made_);
  }

  [[nodiscard]] bool is_in_memory(uint32_t member, uint32_t layer, uint32_t expert) const {
    return homes_[member].has(expert, config_.expert_count) || loaded_[member][layer][expert];
  }

  void load_and_give_back() {
    loads_of_forward = 0;
    for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
      for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
        bool is_loaded = false;
        for (uint32_t member = 0; member < size(); ++member) {
          const bool is_wanted = of(0).wanted(layer).is_at(expert, member);
          if (of(0).placement(layer).is_at(expert, member)) {
            if (is_in_memory(member, layer, expert)) continue;
            is_loaded = loaded_[member][layer][expert] = true;
            all_[member]->note_in_memory(layer, expert, true);
          } else if (!is_wanted && loaded_[member][layer][expert]) {
            loaded_[member][layer][expert] = false;
            all_[member]->note_in_memory(layer, expert, false);
          }
        }
        loads_of_forward += is_loaded ? 1 : 0;
      }
    }
    loads_in_all += loads_of_forward;
    EXPECT_LE(loads_of_forward, config_.moves_per_step);
  }

  const BalancerConfig config_;
  std::vector<ExpertHome> homes_;
  std::vector<std::unique_ptr<ExpertBalancer>> all_;
  std::vector<std::vector<std::vector<bool>>> loaded_;  // [member][layer][expert]
  std::vector<std::vector<uint32_t>> loads_;            // [layer][expert]: rows in each forward.
  std::size_t made_ = 0;
};

TEST(ExpertMoves, are_bounded_in_every_forward_and_arrive_where_they_were_wanted) {
  uint64_t loads = 0;
  for (uint64_t seed = 0; seed < 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const BalancerConfig config{.layer_count = 2,
                                .expert_count = static_cast<uint32_t>(8 + random.below(9)),
                                .window_size = 4,
                                .step_interval = static_cast<uint32_t>(2 + random.below(30)),
                                .redundant_count = static_cast<uint32_t>(random.below(5)),
                                .moves_per_step = static_cast<uint32_t>(1 + random.below(3))};
    const auto members = static_cast<uint32_t>(2 + random.below(5));
    Cluster cluster(config, members, static_cast<uint32_t>(1 + random.below(members)));
    for (int wave = 0; wave < 3; ++wave) {
      cluster.draw_loads(random);
      cluster.join();
      const uint64_t forwards = 1 + random.below(3 * config.step_interval);
      for (uint64_t forward = 0; forward < forwards; ++forward) {
        cluster.run_forward();
        if (random.below(20) == 0) cluster.draw_loads(random);
      }
    }
    loads += cluster.loads_in_all;
  }
  EXPECT_GT(loads, 1000U);
}

BalancerConfig two_nodes(uint32_t moves_per_step) {
  return {.layer_count = 3,
          .expert_count = 16,
          .window_size = 1000,
          .step_interval = 60,
          .redundant_count = 4,
          .moves_per_step = moves_per_step};
}

TEST(ExpertMoves, are_spread_over_as_many_forwards_as_they_need) {
  for (const uint32_t each : {1U, 2U, 1000U}) {
    Random random(7);
    Cluster cluster(two_nodes(each), 4, 2);
    cluster.draw_loads(random);
    for (int forward = 0; forward < 61; ++forward) cluster.run_forward();
    const auto to_come = cluster.of(0).moves_to_come();
    const auto all = to_come + cluster.loads_of_forward;
    ASSERT_GT(all, 4U);
    const std::size_t forwards = (to_come + each - 1) / each;
    for (std::size_t i = 0; i < forwards; ++i) {
      EXPECT_FALSE(cluster.has_arrived());
      cluster.run_forward();
    }
    EXPECT_TRUE(cluster.has_arrived()) << each;
    EXPECT_EQ(cluster.of(0).moves_to_come(), 0U);
    EXPECT_EQ(cluster.loads_in_all, all);
  }
}

TEST(ExpertMoves, of_experts_that_are_in_memory_are_made_at_once) {
  Random random(7);
  Cluster cluster(two_nodes(1), 4, 4);
  cluster.draw_loads(random);
  const auto before = ExpertPlacement(16, 4);
  for (int forward = 0; forward < 61; ++forward) cluster.run_forward();
  EXPECT_TRUE(cluster.has_arrived());
  EXPECT_NE(cluster.of(0).placement(0), before);
  EXPECT_EQ(cluster.loads_in_all, 0U);
}

TEST(ExpertMoves, what_was_loaded_in_one_wave_is_there_in_the_next) {
  Random random(7);
  Cluster cluster(two_nodes(1000), 4, 2);
  cluster.draw_loads(random);
  for (int forward = 0; forward < 62; ++forward) cluster.run_forward();
  const uint64_t loads = cluster.loads_in_all;
  ASSERT_GT(loads, 4U);
  for (int wave = 0; wave < 5; ++wave) {
    cluster.join();
    for (int forward = 0; forward < 3; ++forward) cluster.run_forward();
    EXPECT_TRUE(cluster.has_arrived());
  }
  EXPECT_EQ(cluster.loads_in_all, loads);
}

}  // namespace
}  // namespace trireme::worker
