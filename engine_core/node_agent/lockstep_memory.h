// LockstepMemory: what the ranks of a lockstep group share on their node, held by who starts them,
// so that it outlives each of them: the board of their steps.
// Threads: one owner.
#pragma once

#include <optional>
#include <string>

#include "common/options/serve_options.h"
#include "common/process/child_process.h"
#include "common/status.h"
#include "engine_core/lockstep/step_board.h"

namespace trireme::engine {

class LockstepMemory {
 public:
  // For the ranks of `options` on this node; none without --enable-expert-parallel. Whether the
  // model has experts is for the ranks to see.
  [[nodiscard]] static StatusOr<LockstepMemory> create(const ServeOptions& options);

  // Hands all of it to a process of one of the ranks.
  void hand_to(process::ChildOptions& child) const;

 private:
  std::optional<StepBoard::Parts> board_;
};

}  // namespace trireme::engine
