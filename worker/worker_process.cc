#include "worker/worker_process.h"

#include <utility>

#include "common/log.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/worker_loop.h"

namespace trireme::worker {
namespace {

StatusOr<std::shared_ptr<const shm::Mapping>> map(int fd, const char* name) {
  StatusOr<shm::Mapping> mapping = shm::Mapping::attach(UniqueFd(fd));
  if (!mapping.ok()) return annotate(mapping.status(), name);
  return std::make_shared<const shm::Mapping>(*std::move(mapping));
}

StatusOr<std::unique_ptr<HiddenPipe>> join_pipe(int fd, const char* name, uint32_t peer_stage) {
  if (fd < 0) return error(StatusCode::kInvalidArgument, "%s is missing", name);
  TRIREME_ASSIGN_OR_RETURN(auto memory, map(fd, name));
  TRIREME_ASSIGN_OR_RETURN(auto pipe, ShmPipe::attach(std::move(memory), peer_stage, kPeerLimit));
  return std::unique_ptr<HiddenPipe>(std::move(pipe));
}

StatusOr<std::unique_ptr<Worker>> load(const WorkerFlags& flags, const ServeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const WorkerPlace place, place_of(options, flags.rank));
  TRIREME_ASSIGN_OR_RETURN(WorkerLinks links, join_peers(flags, place));
  const Progress progress = [](std::string_view stage, double done) {
    log::debug("worker_loading", {{"stage", stage}, {"done", done}});
  };
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker,
                           load_stage(options, place, std::move(links), progress));
  const wire::WorkerReady ready = worker->ready();
  log::info("worker_loaded", {{"weight_bytes", ready.weight_bytes},
                              {"kv_bytes_max", ready.kv_bytes_max},
                              {"milliseconds", ready.load_milliseconds}});
  return worker;
}

}  // namespace

StatusOr<WorkerPlace> place_of(const ServeOptions& options, uint32_t rank) {
  const uint32_t tp = options.parallel.tensor_parallel_size;
  const uint32_t pp = options.parallel.pipeline_parallel_size;
  if (rank >= uint64_t{tp} * pp) {
    return error(StatusCode::kInvalidArgument,
                 "worker rank %u is beyond --tensor-parallel-size %u x --pipeline-parallel-size %u",
                 rank, tp, pp);
  }
  return WorkerPlace{.tp_rank = rank % tp, .tp_size = tp, .pp_rank = rank / tp, .pp_size = pp};
}

StatusOr<WorkerLinks> join_peers(const WorkerFlags& flags, const WorkerPlace& place) {
  WorkerLinks links;
  if (place.tp_size == 1) {
    links.tensor_parallel = std::make_unique<SoloCollective>();
  } else {
    if (flags.collective_fd < 0) {
      return error(StatusCode::kInvalidArgument, "collective is missing");
    }
    TRIREME_ASSIGN_OR_RETURN(auto memory, map(flags.collective_fd, "collective"));
    TRIREME_ASSIGN_OR_RETURN(
        links.tensor_parallel,
        ShmCollective::attach(std::move(memory), place.tp_rank, place.tp_size, kPeerLimit));
  }
  if (place.pp_rank > 0) {
    TRIREME_ASSIGN_OR_RETURN(links.from_previous,
                             join_pipe(flags.pipe_in_fd, "pipe_in", place.pp_rank - 1));
  }
  if (place.pp_rank + 1 < place.pp_size) {
    TRIREME_ASSIGN_OR_RETURN(links.to_next,
                             join_pipe(flags.pipe_out_fd, "pipe_out", place.pp_rank + 1));
  }
  return links;
}

Status run_worker_process(const WorkerFlags& flags, const ServeOptions& options) {
  StatusOr<shm::QueueMemory> steps = shm::QueueMemory::attach(UniqueFd(flags.steps_fd));
  if (!steps.ok()) return annotate(steps.status(), "steps");
  StatusOr<shm::QueueMemory> results = shm::QueueMemory::attach(UniqueFd(flags.results_fd));
  if (!results.ok()) return annotate(results.status(), "results");
  shm::ShmReceiver receiver(*steps, flags.rank % steps->shape().reader_count);
  shm::ShmSender sender(*results, flags.rank % results->shape().ring_count);
  return run_worker(
      flags.rank, [&] { return load(flags, options); }, receiver, sender);
}

}  // namespace trireme::worker
