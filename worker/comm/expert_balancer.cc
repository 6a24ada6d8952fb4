#include "worker/comm/expert_balancer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace trireme::worker {
namespace {

// Moved experts come from memory, not from a cache: less than this part gained is not worth it.
constexpr uint64_t kGainPart = 16;

}  // namespace

ExpertBalancer::ExpertBalancer(const BalancerConfig& config)
    : config_(config),
      columns_(std::size_t{config.expert_count} + 1),
      current_(config.layer_count * columns_),
      previous_(current_.size()),
      placements_(config.layer_count),
      is_here_(std::size_t{config.layer_count} * config.expert_count),
      routed_(config.expert_count) {
  TRIREME_CHECK(config.step_interval > 0, "flags are checked");
}

void ExpertBalancer::join(ExpertPlacement home, uint32_t own_index) {
  const bool is_first = member_count_ == 0;
  home_ = std::move(home);
  member_count_ = home_.member_count();
  own_index_ = own_index;
  forwards_in_wave_ = 0;
  is_agreed_ = false;
  if (!is_first) return;
  for (std::size_t i = 0; i < is_here_.size(); ++i) {
    is_here_[i] = home_.is_at(static_cast<uint32_t>(i % config_.expert_count), own_index) ? 1 : 0;
  }
}

bool ExpertBalancer::begin_forward() {
  if (++forwards_in_half_ > std::max(config_.window_size / 2, 1U)) {
    std::swap(current_, previous_);
    std::ranges::fill(current_, 0);
    forwards_in_half_ = 1;
  }
  return forwards_in_wave_++ % config_.step_interval == 0;
}

void ExpertBalancer::write_table(std::span<uint32_t> table) const {
  for (std::size_t i = 0; i < table.size(); ++i) {
    table[i] = static_cast<uint32_t>(
        std::min<uint64_t>(current_[i] + previous_[i], std::numeric_limits<uint32_t>::max()));
  }
}

void ExpertBalancer::rebalance(std::span<const uint32_t> tables) {
  TRIREME_CHECK(tables.size() == member_count_ * table_size(), "a table of each member");
  Sums computed;
  for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
    const Sums of_layer = sum_computed(tables, layer);
    computed.all += of_layer.all;
    computed.busiest += of_layer.busiest;
    sum_routed(tables, layer);
    place(layer);
    count_moves(layer);
  }
  is_agreed_ = true;
  if (computed.busiest == 0) return;
  load_.balancedness = static_cast<float>(static_cast<double>(computed.all) /
                                          (static_cast<double>(computed.busiest) * member_count_));
}

ExpertBalancer::Sums ExpertBalancer::sum_computed(std::span<const uint32_t> tables,
                                                  uint32_t layer) const {
  Sums sums;
  for (uint32_t member = 0; member < member_count_; ++member) {
    const uint64_t rows = at(tables, member, layer, config_.expert_count);
    sums.all += rows;
    sums.busiest = std::max(sums.busiest, rows);
  }
  return sums;
}

void ExpertBalancer::sum_routed(std::span<const uint32_t> tables, uint32_t layer) {
  std::ranges::fill(routed_, 0);
  for (uint32_t member = 0; member < member_count_; ++member) {
    for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
      routed_[expert] += at(tables, member, layer, expert);
    }
  }
}

void ExpertBalancer::place(uint32_t layer) {
  // What was agreed in this wave; before, each member may have another one, and all know the homes.
  const ExpertPlacement& current = is_agreed_ ? placements_[layer] : home_;
  const uint64_t busiest = busiest_load(current, routed_);
  ExpertPlacement next = place_experts(routed_, member_count_, config_.redundant_count);
  if (busiest_load(next, routed_) + busiest / kGainPart < busiest) {
    placements_[layer] = std::move(next);
  } else if (!is_agreed_) {
    placements_[layer] = home_;
  }
}

void ExpertBalancer::count_moves(uint32_t layer) {
  for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
    uint8_t& is_here = is_here_[std::size_t{layer} * config_.expert_count + expert];
    const bool comes = placements_[layer].is_at(expert, own_index_);
    if (comes && is_here == 0) ++load_.moves;
    is_here = comes ? 1 : 0;
  }
}

}  // namespace trireme::worker
