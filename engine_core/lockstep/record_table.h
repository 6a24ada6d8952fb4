// RecordTable: the records that a rank has of those it steps with, its own included. Pure.
//
// Two of each rank are enough. A rank posts its next record when it has had everybody's for the
// one before; so who still needs its last one but one has not posted, and it waits for that. A new
// wave changes nothing in this: its first record comes after an agreement that all take part in, or
// after a loss, when nobody needs the older ones.
// Threads: one owner. Bounds: two records of each of ranks_max ranks; others are dropped.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine_core/lockstep/step_record.h"

namespace trireme::engine {

class RecordTable {
 public:
  explicit RecordTable(uint32_t ranks_max) : by_rank_(ranks_max) {}

  // A record that was said again, or comes late, changes nothing.
  void put(uint32_t rank, const StepRecord& record) {
    if (rank >= by_rank_.size()) return;
    Pair& pair = by_rank_[rank];
    const bool is_known = order(record) == order(pair[0]) || order(record) == order(pair[1]);
    StepRecord& older = order(pair[0]) < order(pair[1]) ? pair[0] : pair[1];
    if (!is_known && order(older) < order(record)) older = record;
  }

  // Of all these ranks for this step of this wave; nothing while one is missing.
  [[nodiscard]] std::optional<StepSummary> gather(WaveId wave, uint64_t step,
                                                  std::span<const uint32_t> ranks) const {
    return gather_from(ranks, [&](uint32_t rank) { return find(rank, wave, step); });
  }

  [[nodiscard]] const StepRecord* find(uint32_t rank, WaveId wave, uint64_t step) const {
    if (rank >= by_rank_.size()) return nullptr;
    for (const StepRecord& record : by_rank_[rank]) {
      if (record.wave == wave && record.step == step) return &record;
    }
    return nullptr;
  }

 private:
  using Pair = std::array<StepRecord, 2>;
  // A rank posts in this order.
  [[nodiscard]] static std::pair<WaveId, uint64_t> order(const StepRecord& record) {
    return {record.wave, record.step};
  }

  std::vector<Pair> by_rank_;
};

}  // namespace trireme::engine
