#include "engine_core/node_agent/lockstep_memory.h"

#include <utility>

#include "proto/member/cluster_shape.h"

namespace trireme::engine {

StatusOr<LockstepMemory> LockstepMemory::create(const ServeOptions& options) {
  LockstepMemory made;
  if (options.parallel.expert_rank_count() == 1) return made;
  const member::RankRange local = member::local_ranks(options);
  TRIREME_ASSIGN_OR_RETURN(made.board_, StepBoard::create(local.first, local.count));
  return made;
}

void LockstepMemory::hand_to(process::ChildOptions& child) const {
  if (!board_) return;
  std::string list = std::to_string(board_->memory.fd());
  child.inherited_fds.push_back(board_->memory.fd());
  for (const UniqueFd& bell : board_->bells) {
    absl::StrAppendFormat(&list, ",%d", bell.get());
    child.inherited_fds.push_back(bell.get());
  }
  child.argv.insert(child.argv.end(), {"--internal-lockstep", list});
}

}  // namespace trireme::engine
