// LockstepCluster: a whole lockstep cluster in one thread and virtual time, with faults.
//
// The product's own state machines run in it: CoordinatorState, and for each rank MemberState and
// LockstepGroup, with TreeExchange over the shared memory of nodes of one to three ranks. The links
// between nodes, the processes, the work and the collectives of a step are simulated. Faults, all
// drawn from the seed: kills and restarts of ranks and of the coordinator, freezes of either, nodes
// cut off, links cut between two nodes, records lost, late joins, delays, clocks that differ. After
// kFaultsEnd they are healed. And what is none: aborts, pauses, ranks that drain and come back.
// Or, in place of all these: two nodes stop hearing each other, and go on hearing the coordinator
// and the rest. Or: links that are cut for a moment only, and a coordinator that is frozen again
// and again.
//
// What must hold (the first that does not is the outcome's failure):
//   - a step that ended had all ranks of its wave in it, and no others;
//   - and one of them had said that it had work, or went on with one that was broken off;
//   - where two nodes do not hear each other, the others go on with their work within kStillMax;
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
