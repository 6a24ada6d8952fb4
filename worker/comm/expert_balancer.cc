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

ExpertBalancer::ExpertBalancer(const BalancerConfig& config, const ExpertHome& memory)
    : config_(config),
      memory_(memory),
      columns_(std::size_t{config.expert_count} + 1),
      table_columns_(columns_ + (config.expert_count + 31) / 32),
      current_(config.layer_count * columns_),
      previous_(current_.size()),
      placements_(config.layer_count),
      wanted_(config.layer_count),
      is_here_(std::size_t{config.layer_count} * config.expert_count),
      in_memory_(is_here_.size()),
      routed_(config.expert_count) {
  TRIREME_CHECK(config.step_interval > 0 && config.moves_per_step > 0, "flags are checked");
  note_loaded_are_gone();
}

void ExpertBalancer::note_loaded_are_gone() {
  for (std::size_t i = 0; i < in_memory_.size(); ++i) {
    const auto expert = static_cast<uint32_t>(i % config_.expert_count);
    in_memory_[i] = memory_.has(expert, config_.expert_count) ? 1 : 0;
  }
}

void ExpertBalancer::join(ExpertPlacement home, uint32_t own_index) {
  const bool is_first = member_count_ == 0;
  home_ = std::move(home);
  member_count_ = home_.member_count();
  own_index_ = own_index;
  forwards_in_wave_ = 0;
  is_agreed_ = false;
  moves_.clear();
  moves_made_ = 0;
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
  constexpr uint64_t kMax = std::numeric_limits<uint32_t>::max();
  std::ranges::fill(table, 0);
  for (std::size_t layer = 0; layer < config_.layer_count; ++layer) {
    const auto row = table.subspan(layer * table_columns_, table_columns_);
    for (std::size_t column = 0; column < columns_; ++column) {
      const std::size_t i = layer * columns_ + column;
      row[column] = static_cast<uint32_t>(std::min(current_[i] + previous_[i], kMax));
    }
    for (std::size_t expert = 0; expert < config_.expert_count; ++expert) {
      const uint32_t bit = in_memory_[layer * config_.expert_count + expert];
      row[columns_ + expert / 32] |= bit << (expert % 32);
    }
  }
}

void ExpertBalancer::rebalance(std::span<const uint32_t> tables) {
  TRIREME_CHECK(tables.size() == member_count_ * table_size(), "a table of each member");
  moves_.clear();
  moves_made_ = 0;
  Sums computed;
  for (uint32_t layer = 0; layer < config_.layer_count; ++layer) {
    const Sums of_layer = sum_computed(tables, layer);
    computed.all += of_layer.all;
    computed.busiest += of_layer.busiest;
    sum_routed(tables, layer);
    const IsInMemory is_there = [&](uint32_t expert, uint32_t member) {
      return is_in_memory(tables, member, layer, expert);
    };
    place(layer, is_there);
    plan_moves(layer, is_there);
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

void ExpertBalancer::place(uint32_t layer, const IsInMemory& is_in_memory) {
  // What was agreed in this wave; before, each member may have another one, and all know the homes.
  if (!is_agreed_) placements_[layer] = wanted_[layer] = home_;
  const uint64_t busiest = busiest_load(wanted_[layer], routed_);
  ExpertPlacement next =
      place_experts(routed_, member_count_, config_.redundant_count, is_in_memory);
  if (busiest_load(next, routed_) + busiest / kGainPart < busiest) wanted_[layer] = std::move(next);
}

void ExpertBalancer::plan_moves(uint32_t layer, const IsInMemory& is_in_memory) {
  ExpertPlacement& placement = placements_[layer];
  const ExpertPlacement& wanted = wanted_[layer];
  const auto is_loaded_somewhere = [&](uint32_t expert) {
    return std::ranges::any_of(wanted.members_of(expert), [&](uint32_t member) {
      return !placement.is_at(expert, member) && !is_in_memory(expert, member);
    });
  };
  const std::size_t first = moves_.size();
  for (uint32_t expert = 0; expert < config_.expert_count; ++expert) {
    const bool is_there =
        std::ranges::equal(placement.members_of(expert), wanted.members_of(expert));
    if (!is_there && is_loaded_somewhere(expert)) moves_.push_back({layer, expert});
  }
  const auto later = std::span(moves_).subspan(first);
  placement = moved(placement, wanted, [&](uint32_t expert) {
    return std::ranges::find(later, expert, &Move::expert) == later.end();
  });
  std::ranges::stable_sort(later, std::ranges::greater(),
                           [&](const Move& move) { return routed_[move.expert]; });
}

std::span<const ExpertBalancer::Move> ExpertBalancer::move_experts() {
  const std::size_t count = std::min<std::size_t>(config_.moves_per_step, moves_to_come());
  const auto now = std::span(std::as_const(moves_)).subspan(moves_made_, count);
  moves_made_ += count;
  for (const Move& move : now) {
    ExpertPlacement& placement = placements_[move.layer];
    placement = moved(placement, wanted_[move.layer],
                      [&](uint32_t expert) { return expert == move.expert; });
    count_moves(move.layer);
  }
  return now;
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
