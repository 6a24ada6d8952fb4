// ExpertBalancer: what one member of a wave counts of its experts' load, and where all experts are
// from one agreement to the next. Pure.
//
//   join(home, own)       a wave: nothing is agreed in it yet
//   begin_forward()       true, of the first forward and of every step_interval-th after it: before
//                         its layers every member gets the table of every other
//   rebalance(tables)     ... and makes the same wanted placements of the same sums
//   move_experts()        a forward's part of the way there
//   count_*()             what goes into the table, over the last window_size forwards or a half of
//                         them: two halves, of which the older one is dropped
//   note_in_memory()      goes into the table as well: who has which weights
//
// All members make the same forwards, so nobody has to say when. Placements last as long as the
// wave: one that is left in the middle, by whomever, begins anew with an agreement. A layer stays
// as it is, or at home, unless its busiest member would have noticeably less to do.
//
//   at home ─ agreement ─▶ experts whose new members have their weights are there at once: a
//                          change of this table
//           ─ forwards ──▶ of the others moves_per_step in each, layer by layer, the busiest first:
//                          that many are loaded in it by a member at most, so that is its pause
//
// Between two of those moves every expert is either where it was or where it is wanted. A new
// agreement begins from there.
//
// Memory: layers · experts numbers, a few times, and as many for each member where the tables are
// kept. Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/comm/expert_placement.h"

namespace trireme::worker {

// The same on all members.
struct BalancerConfig {
  uint32_t layer_count = 0;  // Of those with experts, on this stage.
  uint32_t expert_count = 0;
  uint32_t window_size = 1000;
  uint32_t step_interval = 3000;
  uint32_t redundant_count = 0;
  uint32_t moves_per_step = 1;  // Of experts that somebody has to load; in a forward, at most.
  bool logs = false;            // A line at each rebalancing, by the wave's first member.
};

// Of this member. Counters only grow.
struct ExpertLoad {
  uint64_t rows = 0;   // It computed; a row counts once for each of its experts.
  uint64_t moves = 0;  // Experts that came to it, over all layers.
  // Rows of the mean member over those of the busiest one, layer by layer, in the window before the
  // last agreement; 0: nobody knows yet.
  float balancedness = 0;
};

class ExpertBalancer {
 public:
  struct Move {
    uint32_t layer = 0;
    uint32_t expert = 0;
  };

  // `memory`: which experts of each layer this member has from the start.
  ExpertBalancer(const BalancerConfig& config, const ExpertHome& memory);

  // `home`: where experts are that nobody has wanted.
  void join(ExpertPlacement home, uint32_t own_index);
  [[nodiscard]] bool begin_forward();
  [[nodiscard]] std::size_t table_size() const { return config_.layer_count * table_columns_; }
  // Of this member; `table` has table_size() numbers.
  void write_table(std::span<uint32_t> table) const;
  // [member][table_size()], the own one too.
  void rebalance(std::span<const uint32_t> tables);
  // Once a forward, after that. What was moved; valid until the next rebalance().
  [[nodiscard]] std::span<const Move> move_experts();
  [[nodiscard]] std::size_t moves_to_come() const { return moves_.size() - moves_made_; }
  // An agreement was made in this wave.
  [[nodiscard]] bool is_agreed() const { return is_agreed_; }
  // After the wave's first agreement.
  [[nodiscard]] const ExpertPlacement& placement(uint32_t layer) const {
    return placements_[layer];
  }
  // Where they are going: the same when no moves are to come.
  [[nodiscard]] const ExpertPlacement& wanted(uint32_t layer) const { return wanted_[layer]; }
  // Of this member.
  void note_in_memory(uint32_t layer, uint32_t expert, bool is_in_memory) {
    in_memory_[std::size_t{layer} * config_.expert_count + expert] = is_in_memory ? 1 : 0;
  }
  // Of all layers what was there from the start is what is left.
  void note_loaded_are_gone();

  // Own rows, wherever they are computed: an expert of each.
  void count_routed(uint32_t layer, uint32_t expert) { ++current_[layer * columns_ + expert]; }
  void count_computed(uint32_t layer, uint32_t rows) {
    current_[layer * columns_ + config_.expert_count] += rows;
    load_.rows += rows;
  }

  [[nodiscard]] const BalancerConfig& config() const { return config_; }
  [[nodiscard]] const ExpertLoad& load() const { return load_; }

 private:
  struct Sums {
    uint64_t all = 0;
    uint64_t busiest = 0;
  };
  [[nodiscard]] uint32_t at(std::span<const uint32_t> tables, uint32_t member, uint32_t layer,
                            uint32_t column) const {
    return tables[member * table_size() + layer * table_columns_ + column];
  }
  [[nodiscard]] bool is_in_memory(std::span<const uint32_t> tables, uint32_t member, uint32_t layer,
                                  uint32_t expert) const {
    const uint32_t word = at(tables, member, layer, config_.expert_count + 1 + expert / 32);
    return ((word >> (expert % 32)) & 1) != 0;
  }
  [[nodiscard]] Sums sum_computed(std::span<const uint32_t> tables, uint32_t layer) const;
  void sum_routed(std::span<const uint32_t> tables, uint32_t layer);
  void place(uint32_t layer, const IsInMemory& is_in_memory);
  void plan_moves(uint32_t layer, const IsInMemory& is_in_memory);
  void count_moves(uint32_t layer);

  const BalancerConfig config_;
  const ExpertHome memory_;          // From the start.
  const std::size_t columns_;        // Of a layer: the experts, and what was computed.
  const std::size_t table_columns_;  // The same, and a bit for each expert in memory.
  std::vector<uint64_t> current_;    // [layer][column]
  std::vector<uint64_t> previous_;
  uint32_t forwards_in_half_ = 0;
  uint64_t forwards_in_wave_ = 0;
  ExpertPlacement home_;
  uint32_t member_count_ = 0;  // 0: it was in no wave yet.
  uint32_t own_index_ = 0;
  bool is_agreed_ = false;  // In this wave.
  std::vector<ExpertPlacement> placements_;
  std::vector<ExpertPlacement> wanted_;
  std::vector<Move> moves_;  // From the ones to the others, in their order.
  std::size_t moves_made_ = 0;
  std::vector<uint8_t> is_here_;    // [layer][expert]
  std::vector<uint8_t> in_memory_;  // [layer][expert]
  std::vector<uint64_t> routed_;    // Of a layer, by expert: the sums.
  ExpertLoad load_;
};

}  // namespace trireme::worker
