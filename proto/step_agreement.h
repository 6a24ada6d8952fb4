// StepAgreement: engine -> engine of another node, once or twice a step: what all ranks at and
// below a node say of it, or, on the way down, all of them (engine_core/lockstep/step_tree.h). May
// be lost, repeated, overtaken.
#pragma once

#include <tuple>

#include "common/id.h"
#include "proto/kind.h"

namespace trireme::wire {

struct StepAgreement {
  static constexpr MessageKind kKind = MessageKind::kStepAgreement;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  WaveId wave;
  uint64_t step = 0;
  uint32_t from_node = 0;  // Of the wave.
  bool is_down = false;
  bool has_work = false;
  WaveId next_low;
  WaveId next_high;
  uint64_t pause_sequence = 0;
  uint8_t pause_mode = 0;

  static auto fields(auto& m) {
    return std::tie(m.wave, m.step, m.from_node, m.is_down, m.has_work, m.next_low, m.next_high,
                    m.pause_sequence, m.pause_mode);
  }
  friend bool operator==(const StepAgreement&, const StepAgreement&) = default;
};

}  // namespace trireme::wire
