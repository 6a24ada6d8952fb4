// Lockstep: the engine's half of the lockstep protocol (the coordinator's is
// coordinator/wave_state.h). It says when a rank may run a step, and nothing else. Pure.
//
//   asleep ── StartWave ─▶ ready ── post() ─▶ agreeing ── on_agreed() ─▶ running ── on_step_done()
//      ▲                     ▲                  │ kEnd: asleep                            │
//      │                     │                  │ kSwitch: ready, in the next wave        │
//      └─────────────────────┴──────────────────┴────────────── ready, at the next step ◀─┘
//
// Before each step every rank of the wave posts a record; who has the records of all goes on, and
// all decide alike. So a step's collectives meet the same ranks everywhere, and a wave ends on the
// very step that finishes its last request.
//
// A wave that lost a rank (StartWave::abandon_below) is left at once. Is a step running, then its
// collectives are to be broken (must_break()); when the workers have given it back the rank enters
// the wave that came, and owes the step: it has work until that has been run again.
//
// Any other wave that comes waits until all ranks of this one know of it, or this one has ended.
// One that the rank is not of is where it goes out: asleep, and in no wave any more. When the
// others have all gone over it comes again, to be obeyed at once. Threads: one owner. Total where
// it says so; other calls are legal in the phases named.
#pragma once

#include <optional>
#include <vector>

#include "common/id.h"
#include "engine_core/lockstep/step_record.h"
#include "proto/membership.h"

namespace trireme::engine {

class Lockstep {
 public:
  enum class Phase : uint8_t { kAsleep, kReady, kAgreeing, kRunning };

  explicit Lockstep(EngineId self) : self_(self) {}

  // Total: what is not newer than what was heard changes nothing.
  void on_start(const wire::StartWave& start);

  // kReady: the record for all ranks of the wave.
  [[nodiscard]] StepRecord post(bool has_work);
  // kAgreeing: the records of all ranks for wave() and step(), combined.
  StepOrder on_agreed(const StepSummary& all);
  // kRunning: the workers have given the step back, done or broken off.
  void on_step_done(bool is_abandoned);

  // kRunning, and nobody will finish the step: its collectives are to be broken off.
  [[nodiscard]] bool must_break() const {
    return phase_ == Phase::kRunning && pending_ && is_lost(*pending_);
  }
  // A step that was broken off is still to be run.
  [[nodiscard]] bool owes_step() const { return owes_step_; }

  // A pause that this rank was asked for; it holds for the group from the next agreement on, for
  // a rank that sleeps at once.
  void wish_pause(const PauseWish& wish);
  // The one that holds.
  [[nodiscard]] const PauseWish& pause() const { return pause_; }
  // The latest that this rank knows of: it will hold.
  [[nodiscard]] const PauseWish& wish() const { return wish_; }
  // That one is not agreed: the others may have another, and who sleeps asks for a wave to tell
  // them. Front ends of several nodes each ask their own ranks alone.
  [[nodiscard]] bool has_untold_wish() const { return wish_ > told_; }

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] bool is_out() const;
  // The one it is in, or was in last, or went out with.
  [[nodiscard]] WaveId wave() const { return wave_; }
  [[nodiscard]] uint64_t step() const { return step_; }
  [[nodiscard]] const std::vector<uint32_t>& ranks() const { return start_.ranks; }
  // What the coordinator has said of the wave.
  [[nodiscard]] const wire::StartWave& start() const { return start_; }

 private:
  [[nodiscard]] bool is_lost(const wire::StartWave& start) const {
    return wave_ < start.abandon_below;
  }
  void enter_pending();
  void enter_if_free();

  EngineId self_;
  Phase phase_ = Phase::kAsleep;
  WaveId wave_;
  uint64_t step_ = 0;
  wire::StartWave start_;
  WaveId heard_;  // The newest wave that anybody has told us of.
  std::optional<wire::StartWave> pending_;
  bool owes_step_ = false;
  PauseWish pause_;  // Holds.
  PauseWish wish_;   // At least as great.
  PauseWish told_;   // The greatest that was agreed.
};

}  // namespace trireme::engine
