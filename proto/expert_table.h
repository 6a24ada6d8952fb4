// ExpertTable: what one worker knows of the load of its stage's experts, with --enable-eplb; for
// people (GET /experts). TellExperts: engine -> worker, asks for it.
//
// Layers are those of the stage that have experts, in order. Rows are counted over the worker's
// last forwards of waves: window_size of them, or down to half as many. A worker that missed a wave
// forgets at other forwards than the others, and its numbers fit theirs nearly, not exactly.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "proto/kind.h"

namespace trireme::wire {

struct ExpertTable {
  uint32_t stage = 0;
  uint32_t place = 0;         // Of the worker in a wave: rank · tp_size + tp_rank.
  uint32_t expert_count = 0;  // Of a layer; 0: nothing is counted, and all else is empty.
  uint32_t window_size = 0;
  // [layer][expert]: of the worker's own rows, wherever they were computed; a row counts once for
  // each of its experts.
  std::vector<uint32_t> routed;
  // [layer]: rows of anybody that its experts computed, counted likewise.
  std::vector<uint32_t> computed;
  // [layer][expert]: at how many places it is, and these one after the other. Empty: the worker was
  // in no wave yet.
  std::vector<uint32_t> replica_counts;
  std::vector<uint32_t> replica_places;

  static auto fields(auto& m) {
    return std::tie(m.stage, m.place, m.expert_count, m.window_size, m.routed, m.computed,
                    m.replica_counts, m.replica_places);
  }
  friend bool operator==(const ExpertTable&, const ExpertTable&) = default;
};

// Engine -> workers, in the order of the steps. Answered by a StepResult with step 0 and the table.
struct TellExperts {
  static constexpr MessageKind kKind = MessageKind::kTellExperts;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  uint8_t reserved = 0;

  static auto fields(auto& m) { return std::tie(m.reserved); }
  friend bool operator==(const TellExperts&, const TellExperts&) = default;
};

}  // namespace trireme::wire
