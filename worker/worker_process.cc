#include "worker/worker_process.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/net_address.h"
#include "common/zmq/remote_queue.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "worker/comm/pairwise_collective.h"
#include "worker/comm/remote_pipe.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_mesh.h"
#include "worker/comm/shm_pipe.h"
#include "worker/comm/spanned_links.h"
#include "worker/expert_parallel.h"
#include "worker/worker_loop.h"

namespace trireme::worker {
namespace {

StatusOr<std::shared_ptr<const shm::Mapping>> map(int fd, const char* name) {
  StatusOr<shm::Mapping> mapping = shm::Mapping::attach(UniqueFd(fd));
  if (!mapping.ok()) return annotate(mapping.status(), name);
  return std::make_shared<const shm::Mapping>(*std::move(mapping));
}

StatusOr<std::unique_ptr<HiddenPipe>> join_pipe(int fd, const char* name, uint32_t peer_stage,
                                                const PeerReach& reach) {
  if (fd < 0) return error(StatusCode::kInvalidArgument, "%s is missing", name);
  TRIREME_ASSIGN_OR_RETURN(auto memory, map(fd, name));
  TRIREME_ASSIGN_OR_RETURN(auto pipe,
                           ShmPipe::attach(std::move(memory), peer_stage, reach.limit, reach.life));
  return std::unique_ptr<HiddenPipe>(std::move(pipe));
}

StatusOr<std::unique_ptr<HiddenPipe>> join_peer(const PeerFlags& peer, uint64_t group,
                                                const PeerReach& reach) {
  if (peer.endpoint.empty()) return join_pipe(peer.fd, "peer", peer.rank, reach);
  if (reach.context == nullptr) {
    return error(StatusCode::kInternal, "rank %u is on another node, and there is no context",
                 peer.rank);
  }
  const RemotePipeOptions options{
      .group = group, .peer_rank = peer.rank, .limit = reach.limit, .life = reach.life};
  auto pipe = peer.is_in ? RemotePipe::listen(*reach.context, peer.endpoint, peer.fd, options)
                         : RemotePipe::connect(*reach.context, peer.endpoint, options);
  if (!pipe.ok()) return annotate(pipe.status(), "peer rank " + std::to_string(peer.rank));
  return std::unique_ptr<HiddenPipe>(*std::move(pipe));
}

StatusOr<std::unique_ptr<HiddenPipe>> join_peer(const WorkerFlags& flags, bool is_in, uint32_t rank,
                                                const PeerReach& reach) {
  for (const PeerFlags& peer : flags.peers) {
    if (peer.is_in == is_in && peer.rank == rank) return join_peer(peer, flags.group, reach);
  }
  return error(StatusCode::kInvalidArgument, "a pipe %s rank %u is missing", is_in ? "from" : "to",
               rank);
}

StatusOr<std::unique_ptr<Collective>> join_pairwise(const WorkerFlags& flags,
                                                    const WorkerPlace& place,
                                                    const PeerReach& reach) {
  const uint32_t first = place.pp_rank * place.tp_size;
  std::vector<PairwiseCollective::Peer> peers(place.tp_size);
  for (uint32_t tp_rank = 0; tp_rank < place.tp_size; ++tp_rank) {
    if (tp_rank == place.tp_rank) continue;
    TRIREME_ASSIGN_OR_RETURN(peers[tp_rank].out, join_peer(flags, false, first + tp_rank, reach));
    TRIREME_ASSIGN_OR_RETURN(peers[tp_rank].in, join_peer(flags, true, first + tp_rank, reach));
  }
  return std::make_unique<PairwiseCollective>(place.tp_rank, std::move(peers));
}

StatusOr<std::unique_ptr<Collective>> join_collective(const WorkerFlags& flags,
                                                      const WorkerPlace& place,
                                                      const PeerReach& reach) {
  if (place.tp_size == 1) return std::make_unique<SoloCollective>();
  if (flags.collective_fd < 0) {
    if (!flags.peers.empty()) return join_pairwise(flags, place, reach);
    return error(StatusCode::kInvalidArgument, "collective is missing");
  }
  TRIREME_ASSIGN_OR_RETURN(auto memory, map(flags.collective_fd, "collective"));
  TRIREME_ASSIGN_OR_RETURN(auto joined,
                           ShmCollective::attach(std::move(memory), place.tp_rank, place.tp_size,
                                                 reach.limit, reach.life));
  return std::unique_ptr<Collective>(std::move(joined));
}

// Who started a worker names and kills the one that hangs, or runs without progress, before its
// peers give it up, which would end them as well.
Duration peer_limit(const ServeOptions& options) {
  return std::max<Duration>(kWatchedPeerLimit,
                            2 * std::chrono::seconds(options.worker.timeout_seconds));
}

// Experts that are divided over ranks of several nodes.
bool spans_nodes(const WorkerFlags& flags, const ServeOptions& options) {
  return flags.mesh_fd >= 0 && !member::is_one_node(options);
}

StatusOr<std::unique_ptr<ExpertExchange>> join_mesh(const WorkerFlags& flags,
                                                    const ServeOptions& options, uint32_t place,
                                                    const zmq::Context* context, LifeSigns life) {
  const Duration limit = peer_limit(options);
  TRIREME_ASSIGN_OR_RETURN(auto memory, map(flags.mesh_fd, "mesh"));
  auto near = ShmMesh::attach(std::move(memory), {.place = place, .limit = limit, .life = life});
  if (!near.ok()) return annotate(near.status(), "mesh");
  if (!spans_nodes(flags, options)) {
    return std::make_unique<ExpertExchange>(*std::move(near), places_of_wave(options), life);
  }
  // Where the others reach us by the way that leads to the coordinator.
  TRIREME_ASSIGN_OR_RETURN(const std::string host, address_towards(member::control_host(options)));
  auto far = RemoteMesh::listen(*context, member::tcp_endpoint(host, 0),
                                {.place = place, .limit = limit, .life = life});
  if (!far.ok()) return annotate(far.status(), "mesh");
  return std::make_unique<ExpertExchange>(
      std::make_unique<SpannedLinks>(*std::move(near), *std::move(far)), places_of_wave(options),
      life);
}

StatusOr<std::unique_ptr<Worker>> load(const WorkerFlags& flags, const ServeOptions& options,
                                       const zmq::Context* context, LifeSigns life,
                                       DeviceFactory& factory) {
  TRIREME_ASSIGN_OR_RETURN(const WorkerPlace place, place_of(options, flags.rank));
  TRIREME_ASSIGN_OR_RETURN(WorkerLinks links,
                           join_peers(flags, place, {context, peer_limit(options), life}));
  links.life = life;
  links.weights = UniqueFd(flags.weights_fd);
  if (flags.mesh_fd >= 0) {
    TRIREME_ASSIGN_OR_RETURN(
        links.experts,
        join_mesh(flags, options, place_in_wave(options, place.tp_rank), context, life));
  }
  const Progress progress = [](std::string_view stage, double done) {
    log::debug("worker_loading", {{"stage", stage}, {"done", done}});
  };
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker,
                           load_stage(options, place, std::move(links), factory, progress));
  const wire::WorkerReady ready = worker->ready();
  log::info("worker_loaded", {{"weight_bytes", ready.weight_bytes},
                              {"block_bytes", ready.block_bytes},
                              {"kv_bytes_max", ready.kv_bytes_max},
                              {"milliseconds", ready.load_milliseconds}});
  return worker;
}

// What such a worker is at is for its parent to see, which the engine tells of a late step.
Status run_far_from_engine(const WorkerFlags& flags, const ServeOptions& options,
                           const zmq::Context& context, DeviceFactory& factory) {
  if (flags.life_fd < 0) return error(StatusCode::kInvalidArgument, "life is missing");
  TRIREME_ASSIGN_OR_RETURN(const auto memory, map(flags.life_fd, "life"));
  const LifeSigns life(sign_of_life_in(memory->bytes()));
  const LoadWorker loader = [&] { return load(flags, options, &context, life, factory); };
  TRIREME_ASSIGN_OR_RETURN(
      const auto steps,
      zmq::RemoteReceiver::connect(context, flags.steps_endpoint, flags.remote_index));
  TRIREME_ASSIGN_OR_RETURN(
      const auto results,
      zmq::RemoteSender::connect(context, flags.results_endpoint, flags.remote_index));
  steps->serve_while_waiting(*results);
  return run_worker(flags.rank, loader, *steps, *results);
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

StatusOr<WorkerLinks> join_peers(const WorkerFlags& flags, const WorkerPlace& place,
                                 const PeerReach& reach) {
  WorkerLinks links;
  TRIREME_ASSIGN_OR_RETURN(links.tensor_parallel, join_collective(flags, place, reach));
  const bool has_peers = !flags.peers.empty();
  if (place.pp_rank > 0) {
    TRIREME_ASSIGN_OR_RETURN(
        links.from_previous,
        has_peers && flags.pipe_in_fd < 0
            ? join_peer(flags, true, flags.rank - place.tp_size, reach)
            : join_pipe(flags.pipe_in_fd, "pipe_in", place.pp_rank - 1, reach));
  }
  if (place.pp_rank + 1 < place.pp_size) {
    TRIREME_ASSIGN_OR_RETURN(
        links.to_next, has_peers && flags.pipe_out_fd < 0
                           ? join_peer(flags, false, flags.rank + place.tp_size, reach)
                           : join_pipe(flags.pipe_out_fd, "pipe_out", place.pp_rank + 1, reach));
  }
  return links;
}

Status run_worker_process(const WorkerFlags& flags, const ServeOptions& options,
                          DeviceFactory& factory) {
  std::unique_ptr<zmq::Context> context;
  if (flags.group != 0 || spans_nodes(flags, options)) {
    TRIREME_ASSIGN_OR_RETURN(context, member::make_cluster_context(options));
  }
  if (!flags.steps_endpoint.empty()) return run_far_from_engine(flags, options, *context, factory);
  StatusOr<shm::QueueMemory> steps = shm::QueueMemory::attach(UniqueFd(flags.steps_fd));
  if (!steps.ok()) return annotate(steps.status(), "steps");
  StatusOr<shm::QueueMemory> results = shm::QueueMemory::attach(UniqueFd(flags.results_fd));
  if (!results.ok()) return annotate(results.status(), "results");
  const uint32_t ring = flags.rank % results->shape().ring_count;
  shm::ShmReceiver receiver(*steps, flags.rank % steps->shape().reader_count);
  shm::ShmSender sender(*results, ring);
  const LifeSigns life(sign_of_life_in(results->note(ring)));
  const LoadWorker loader = [&] { return load(flags, options, context.get(), life, factory); };
  return run_worker(flags.rank, loader, receiver, sender);
}

}  // namespace trireme::worker
