#include "engine_core/node_agent/lockstep_memory.h"

#include <string>
#include <utility>

#include "proto/member/cluster_shape.h"
#include "worker/comm/shm_mesh.h"

namespace trireme::engine {
namespace {

void hand(const char* flag, const std::vector<int>& fds, process::ChildOptions& child) {
  std::string list;
  for (const int fd : fds) absl::StrAppendFormat(&list, "%s%d", list.empty() ? "" : ",", fd);
  child.inherited_fds.insert(child.inherited_fds.end(), fds.begin(), fds.end());
  child.argv.insert(child.argv.end(), {flag, list});
}

}  // namespace

StatusOr<LockstepMemory> LockstepMemory::create(const ServeOptions& options) {
  LockstepMemory made;
  if (options.parallel.expert_rank_count() == 1) return made;
  const member::RankRange local = member::local_ranks(options);
  TRIREME_ASSIGN_OR_RETURN(made.board_, StepBoard::create(local.first, local.count));
  if (options.parallel.executor == Executor::kSim) return made;
  const uint32_t tp_size = options.parallel.tensor_parallel_size;
  for (uint32_t stage = 0; stage < options.parallel.pipeline_parallel_size; ++stage) {
    TRIREME_ASSIGN_OR_RETURN(
        auto mesh, worker::ShmMesh::create_memory({.first_place = local.first * tp_size,
                                                   .place_count = local.count * tp_size}));
    made.meshes_.push_back(std::move(mesh));
  }
  return made;
}

void LockstepMemory::hand_to(process::ChildOptions& child) const {
  if (!board_) return;
  std::vector<int> fds = {board_->memory.fd()};
  for (const UniqueFd& bell : board_->bells) fds.push_back(bell.get());
  hand("--internal-lockstep", fds, child);
  fds.clear();
  for (const shm::Mapping& mesh : meshes_) fds.push_back(mesh.fd());
  if (!fds.empty()) hand("--internal-expert-mesh", fds, child);
}

}  // namespace trireme::engine
