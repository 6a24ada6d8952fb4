// Goal: members that make the same forwards agree without a word beyond their tables: when, and on
// what. Method: balancers of all members side by side, their tables carried by hand.
#include "worker/comm/expert_balancer.h"

#include <gtest/gtest.h>

#include <memory>

#include "common/random.h"

namespace trireme::worker {
namespace {

constexpr BalancerConfig kConfig{.layer_count = 2,
                                 .expert_count = 4,
                                 .window_size = 4,
                                 .step_interval = 3,
                                 .redundant_count = 1};

class Members {
 public:
  explicit Members(uint32_t count, const BalancerConfig& config = kConfig) {
    for (uint32_t i = 0; i < count; ++i) {
      all_.push_back(std::make_unique<ExpertBalancer>(config, ExpertHome()));
    }
    join(count);
  }
  [[nodiscard]] ExpertBalancer& of(uint32_t member) const { return *all_[member]; }
  // As a new process, which knows nothing.
  void start_again(uint32_t member) {
    all_[member] = std::make_unique<ExpertBalancer>(kConfig, ExpertHome());
  }
  void join(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) of(i).join(ExpertPlacement(4, count), i);
    count_ = count;
  }
  // A forward of each, in which they agree if it is time.
  bool begin_forward() {
    const bool is_due = of(0).begin_forward();
    for (uint32_t i = 1; i < count_; ++i) EXPECT_EQ(of(i).begin_forward(), is_due);
    if (!is_due) {
      move_experts();
      return false;
    }
    const std::size_t each = of(0).table_size();
    std::vector<uint32_t> tables(count_ * each);
    for (uint32_t i = 0; i < count_; ++i) {
      of(i).write_table(std::span(tables).subspan(i * each, each));
    }
    for (uint32_t i = 0; i < count_; ++i) of(i).rebalance(tables);
    move_experts();
    return true;
  }
  void begin_forwards_until_agreed() {
    while (!begin_forward()) {
    }
  }
  // Rows of that member, computed where they belong.
  void route(uint32_t member, uint32_t layer, uint32_t expert, uint32_t rows) {
    for (uint32_t row = 0; row < rows; ++row) of(member).count_routed(layer, expert);
    of(of(member).placement(layer).member_for(expert, member)).count_computed(layer, rows);
  }
  void expect_agreed() const {
    for (uint32_t i = 1; i < count_; ++i) {
      for (uint32_t layer = 0; layer < of(0).config().layer_count; ++layer) {
        EXPECT_EQ(of(i).placement(layer), of(0).placement(layer)) << i << ", layer " << layer;
      }
    }
  }

 private:
  void move_experts() const {
    for (uint32_t i = 0; i < count_; ++i) (void)of(i).move_experts();
  }

  std::vector<std::unique_ptr<ExpertBalancer>> all_;
  uint32_t count_ = 0;
};

std::vector<uint32_t> told(const ExpertPlacement& placement, uint32_t expert) {
  const auto members = placement.members_of(expert);
  return {members.begin(), members.end()};
}

TEST(ExpertBalancer, the_first_forward_of_a_wave_agrees_and_every_so_many_after_it) {
  Members members(2);
  for (int wave = 0; wave < 2; ++wave) {
    for (int forward = 0; forward < 8; ++forward) {
      EXPECT_EQ(members.begin_forward(), forward % 3 == 0) << forward;
    }
    members.join(2);
  }
}

TEST(ExpertBalancer, before_anything_is_known_experts_are_in_equal_parts) {
  Members members(2);
  members.begin_forward();
  EXPECT_EQ(members.of(0).placement(0), ExpertPlacement(4, 2));
  EXPECT_EQ(members.of(1).load().moves, 0U);
  EXPECT_EQ(members.of(1).load().balancedness, 0.0F);
}

TEST(ExpertBalancer, a_busy_expert_comes_to_a_second_member_in_its_layer_alone) {
  Members members(2);
  members.begin_forward();
  members.route(0, 0, 0, 90);
  members.route(1, 0, 3, 10);
  members.begin_forwards_until_agreed();
  EXPECT_EQ(told(members.of(0).placement(0), 0), (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(members.of(0).placement(1), ExpertPlacement(4, 2));
  members.expect_agreed();
  EXPECT_GE(members.of(1).load().moves, 1U) << "expert 0 is new there";
  EXPECT_EQ(members.of(0).load().rows, 90U);
  EXPECT_EQ(members.of(1).load().rows, 10U);
  EXPECT_FLOAT_EQ(members.of(0).load().balancedness, 50.0F / 90);
  EXPECT_FLOAT_EQ(members.of(1).load().balancedness, 50.0F / 90);
}

TEST(ExpertBalancer, balancedness_is_of_each_layer_by_itself) {
  Members members(2);
  members.begin_forward();
  members.route(0, 0, 0, 60);
  members.route(0, 1, 3, 60);
  members.begin_forwards_until_agreed();
  EXPECT_FLOAT_EQ(members.of(0).load().balancedness, 0.5F) << "each layer waits for one of them";
}

TEST(ExpertBalancer, the_window_forgets) {
  ExpertBalancer balancer(kConfig, ExpertHome());
  balancer.join(ExpertPlacement(4, 2), 0);
  std::vector<uint32_t> table(balancer.table_size());
  EXPECT_TRUE(balancer.begin_forward());
  balancer.count_routed(1, 2);
  std::vector<uint32_t> seen;
  for (int forward = 2; forward <= 6; ++forward) {
    (void)balancer.begin_forward();
    balancer.write_table(table);
    seen.push_back(table[6 + 2]);
  }
  EXPECT_EQ(seen, (std::vector<uint32_t>{1, 1, 1, 0, 0})) << "after two halves of two forwards";
}

TEST(ExpertBalancer, when_loaded_experts_are_gone_what_was_there_from_the_start_is_left) {
  ExpertBalancer balancer(kConfig, {.place_count = 2});
  balancer.join(ExpertPlacement(4, 2), 0);
  const auto table = [&] {
    std::vector<uint32_t> numbers(balancer.table_size());
    balancer.write_table(numbers);
    return numbers;
  };
  const std::vector<uint32_t> at_start = table();
  for (const uint32_t layer : {0U, 1U}) balancer.note_in_memory(layer, 3, true);
  EXPECT_NE(table(), at_start);
  balancer.note_loaded_are_gone();
  EXPECT_EQ(table(), at_start);
}

TEST(ExpertBalancer, a_small_gain_moves_nothing_and_a_large_one_does) {
  Members members(2, {.layer_count = 1, .expert_count = 4, .window_size = 2, .step_interval = 4});
  const auto agree_on = [&](const std::vector<uint32_t>& rows) {
    for (int forward = 0; forward < 4; ++forward) {
      members.begin_forward();
      for (uint32_t expert = 0; expert < 4; ++expert) members.route(0, 0, expert, rows[expert]);
    }
    members.begin_forward();
    const ExpertPlacement agreed = members.of(0).placement(0);
    members.expect_agreed();
    return agreed;
  };
  const auto rest_of_interval = [&] {
    for (int forward = 0; forward < 3; ++forward) members.begin_forward();
  };
  const ExpertPlacement first = agree_on({100, 90, 20, 10});
  EXPECT_EQ(first.member_for(0, 0), first.member_for(3, 0));
  rest_of_interval();
  EXPECT_EQ(agree_on({90, 100, 20, 15}), first) << "another would give 115 in place of 120";
  rest_of_interval();
  const ExpertPlacement other = agree_on({100, 10, 20, 90});
  EXPECT_NE(other.member_for(0, 0), other.member_for(3, 0));
}

TEST(ExpertBalancer, members_that_know_different_things_agree_in_every_wave) {
  Random random(3);
  Members members(4);
  for (int wave = 0; wave < 60; ++wave) {
    const auto count = static_cast<uint32_t>(2 + random.below(3));
    members.join(count);
    const uint64_t forwards = 1 + random.below(9);
    for (uint64_t forward = 0; forward < forwards; ++forward) {
      members.begin_forward();
      members.expect_agreed();
      for (int i = 0; i < 6; ++i) {
        const auto rows = static_cast<uint32_t>(1 + random.below(50));
        members.route(static_cast<uint32_t>(random.below(count)),
                      static_cast<uint32_t>(random.below(2)),
                      static_cast<uint32_t>(random.below(4)), rows);
      }
    }
    if (random.below(3) == 0) members.start_again(0);
  }
}

}  // namespace
}  // namespace trireme::worker
