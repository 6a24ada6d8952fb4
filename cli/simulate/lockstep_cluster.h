// LockstepCluster: a whole lockstep cluster in one thread and virtual time, with faults.
//
// The product's own state machines run in it: CoordinatorState, and for each rank MemberState,
// Lockstep and RecordTable. The links between them, the processes, the work and the collectives of
// a step are simulated. Faults, all drawn from the seed: kills and restarts of ranks and of the
// coordinator, freezes of either, links cut between a rank and the coordinator and between two
// ranks, late joins, delays, clocks that differ, aborts, pauses. After kFaultsEnd they are healed.
// Or, in place of all these: two ranks stop hearing each other, and go on hearing the coordinator
// and the rest. Or: links that are cut for a moment only, and a coordinator that is frozen again
// and again.
//
// What must hold (the first that does not is the outcome's failure):
//   - a step that ended had all ranks of its wave in it, and no others;
//   - a rank runs a step only while some rank of its wave has work, or goes on with one that was
//     broken off;
//   - where two ranks do not hear each other, the others go on with their work within kStillMax;
//   - nobody is left out for cuts of a moment;
//   - at the end no work is left that is not paused, every rank sleeps, all hold the same pause,
//     and the coordinator's wave numbers stand still.
// The same options give the same history. Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trireme::sim {

struct LockstepOptions {
  uint64_t seed = 0;
  uint32_t rank_count = 3;
  bool has_faults = true;
  bool has_cut = false;      // In place of the faults; with two ranks or more.
  bool has_flicker = false;  // Likewise: cuts of a moment, and freezes of the coordinator.
  bool keeps_history = false;
};

struct LockstepOutcome {
  std::string failure;  // Empty: all held.
  std::vector<std::string> history;
  uint64_t steps = 0;
  uint64_t dummy_steps = 0;
  uint64_t abandoned_steps = 0;
  uint64_t left_out = 0;  // Ranks, as they could not hear others.
};

[[nodiscard]] LockstepOutcome simulate_lockstep(const LockstepOptions& options);

}  // namespace trireme::sim
