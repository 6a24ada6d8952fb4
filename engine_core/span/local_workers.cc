#include "engine_core/span/local_workers.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <utility>

#include "common/log.h"
#include "common/process/sibling_binary.h"
#include "common/shm/doorbell.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/worker_flags.h"

namespace trireme::engine {
namespace {

// A process that is killed gives its memory back before it is gone. One that is frozen, or hangs in
// the kernel, goes when it can run again.
constexpr Duration kKillMax = std::chrono::seconds(1);

// What the workers of a place share among themselves; their parent only makes it and passes it on.
struct SharedMemory {
  std::map<uint32_t, shm::Mapping> collectives;                 // By stage.
  std::map<std::pair<uint32_t, uint32_t>, shm::Mapping> pipes;  // By edge.
};

bool has_rank(const LocalWorkersConfig& config, uint32_t rank) {
  return config.span.place_of(rank) == config.place;
}

StatusOr<SharedMemory> make_memory(const LocalWorkersConfig& config) {
  const WorkerSpan& span = config.span;
  SharedMemory memory;
  for (uint32_t stage = 0; stage < span.pp_size; ++stage) {
    const bool is_here = has_rank(config, stage * span.tp_size) && span.is_stage_together(stage);
    if (span.tp_size == 1 || !is_here) continue;
    TRIREME_ASSIGN_OR_RETURN(auto mapping, worker::ShmCollective::create_memory(span.tp_size));
    memory.collectives.emplace(stage, std::move(mapping));
  }
  for (const WorkerEdge& edge : worker_edges(span)) {
    if (!has_rank(config, edge.from) || !has_rank(config, edge.to)) continue;
    TRIREME_ASSIGN_OR_RETURN(auto mapping, worker::ShmPipe::create_memory());
    memory.pipes.emplace(std::pair(edge.from, edge.to), std::move(mapping));
  }
  return memory;
}

StatusOr<worker::PeerFlags> peer_elsewhere(const LocalWorkersConfig& config, const WorkerEdge& edge,
                                           bool is_in, const std::vector<Listener>& listeners) {
  if (is_in) {
    for (const Listener& own : listeners) {
      if (own.told.from != edge.from || own.told.to != edge.to) continue;
      return worker::PeerFlags{
          .is_in = true, .rank = edge.from, .fd = own.fd.get(), .endpoint = own.told.endpoint};
    }
  } else {
    for (const wire::RankListener& theirs : config.elsewhere) {
      if (theirs.from != edge.from || theirs.to != edge.to) continue;
      return worker::PeerFlags{.rank = edge.to, .endpoint = theirs.endpoint};
    }
  }
  return error(StatusCode::kInternal, "nobody listens for what rank %u sends to rank %u", edge.from,
               edge.to);
}

StatusOr<worker::WorkerFlags> flags_of(uint32_t rank, const LocalWorkersConfig& config,
                                       const SharedMemory& memory,
                                       const std::vector<Listener>& listeners) {
  const EngineLink& engine = config.engine;
  worker::WorkerFlags flags{.steps_fd = engine.steps_fd,
                            .results_fd = engine.results_fd,
                            .rank = rank,
                            .group = config.group,
                            .steps_endpoint = engine.steps_endpoint,
                            .results_endpoint = engine.results_endpoint};
  if (!engine.steps_endpoint.empty()) flags.remote_index = rank - config.span.first_rank(1);
  const auto collective = memory.collectives.find(rank / config.span.tp_size);
  if (collective != memory.collectives.end()) flags.collective_fd = collective->second.fd();
  for (const WorkerEdge& edge : worker_edges(config.span)) {
    if (edge.from != rank && edge.to != rank) continue;
    const bool is_in = edge.to == rank;
    const auto shared = memory.pipes.find({edge.from, edge.to});
    if (shared == memory.pipes.end()) {
      TRIREME_ASSIGN_OR_RETURN(auto peer, peer_elsewhere(config, edge, is_in, listeners));
      flags.peers.push_back(std::move(peer));
    } else if (edge.is_next_stage) {
      (is_in ? flags.pipe_in_fd : flags.pipe_out_fd) = shared->second.fd();
    } else {
      flags.peers.push_back({.is_in = is_in,
                             .rank = is_in ? edge.from : edge.to,
                             .fd = shared->second.fd(),
                             .endpoint = {}});
    }
  }
  return flags;
}

process::ChildOptions child_of(const std::string& program, const worker::WorkerFlags& flags,
                               const std::vector<std::string>& command_line) {
  process::ChildOptions child;
  child.argv = worker::worker_arguments(flags);
  child.argv.insert(child.argv.begin(), program);
  child.argv.insert(child.argv.end(), command_line.begin(), command_line.end());
  for (const int fd : {flags.steps_fd, flags.results_fd, flags.collective_fd, flags.pipe_in_fd,
                       flags.pipe_out_fd, flags.life_fd, flags.weights_fd, flags.mesh_fd}) {
    if (fd >= 0) child.inherited_fds.push_back(fd);
  }
  for (const worker::PeerFlags& peer : flags.peers) {
    if (peer.fd >= 0) child.inherited_fds.push_back(peer.fd);
  }
  return child;
}

}  // namespace

Status LocalWorkers::start(const LocalWorkersConfig& config,
                           const std::vector<Listener>& listeners) {
  TRIREME_ASSIGN_OR_RETURN(const std::string program, process::find_sibling_binary(config.program));
  TRIREME_ASSIGN_OR_RETURN(const SharedMemory memory, make_memory(config));
  first_rank_ = config.span.first_rank(config.place);
  world_size_ = config.span.world_size();
  for (uint32_t i = 0; i < config.span.ranks_per_place; ++i) {
    const uint32_t rank = first_rank_ + i;
    TRIREME_ASSIGN_OR_RETURN(auto flags, flags_of(rank, config, memory, listeners));
    if (i < config.weight_fds.size()) flags.weights_fd = config.weight_fds[i];
    if (!config.mesh_fds.empty()) flags.mesh_fd = config.mesh_fds[rank / config.span.tp_size];
    if (!config.engine.steps_endpoint.empty()) {
      TRIREME_ASSIGN_OR_RETURN(auto life, shm::Mapping::create("trireme-life", shm::kLine));
      flags.life_fd = life.fd();
      lives_.push_back(std::move(life));
    }
    auto spawned = process::ChildProcess::spawn(child_of(program, flags, config.command_line));
    if (!spawned.ok()) {
      return annotate(spawned.status(), "start worker rank " + std::to_string(rank));
    }
    workers_.push_back(*std::move(spawned));
    pidfds_.push_back(workers_.back().pidfd());
  }
  return absl::OkStatus();
}

Status LocalWorkers::check(bool* clean) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const auto exit = workers_[i].poll_exit();
    if (!exit) continue;
    if (clean != nullptr) *clean = exit->is_success();
    return error(StatusCode::kUnavailable, "worker rank %u (pid %d): %s", first_rank_ + i,
                 workers_[i].pid(), exit->text());
  }
  if (killed_) return error(StatusCode::kUnavailable, "worker rank %u: killed", *killed_);
  return absl::OkStatus();
}

std::vector<WorkerSighting> LocalWorkers::look() const {
  std::vector<WorkerSighting> seen(world_size_);
  for (std::size_t i = 0; i < lives_.size() && i < workers_.size(); ++i) {
    WorkerSighting& worker = seen[first_rank_ + i];
    worker.pid = static_cast<uint32_t>(workers_[i].pid());
    worker.life = worker::look_at(worker::sign_of_life_in(lives_[i].bytes()));
    if (const auto process = process::read_process_state(worker.pid)) worker.process = *process;
  }
  return seen;
}

void LocalWorkers::kill(uint32_t rank) noexcept {
  if (rank < first_rank_ || rank - first_rank_ >= workers_.size()) return;
  workers_[rank - first_rank_].send_signal(SIGKILL);
  killed_ = rank;
}

void LocalWorkers::stop(Deadline deadline) noexcept {
  for (process::ChildProcess& worker : workers_) {
    if (!worker.wait(deadline).ok()) worker.send_signal(SIGKILL);
  }
  const Deadline gone = Deadline::after(kKillMax);
  for (process::ChildProcess& worker : workers_) {
    if (worker.wait(gone).ok()) continue;
    log::warning("worker_outlives_sigkill", {{"worker_pid", worker.pid()}});
    worker.leave();
  }
  workers_.clear();
  pidfds_.clear();
  lives_.clear();
}

std::vector<int> LocalWorkers::pids() const {
  std::vector<int> pids;
  for (const process::ChildProcess& worker : workers_) pids.push_back(worker.pid());
  return pids;
}

}  // namespace trireme::engine
