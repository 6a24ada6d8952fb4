#include "engine_core/executor/mp.h"

#include <csignal>

#include "common/log.h"
#include "common/process/sibling_binary.h"
#include "common/shm/mapping.h"
#include "worker/comm/shm_collective.h"
#include "worker/comm/shm_pipe.h"
#include "worker/worker_flags.h"

namespace trireme::engine {
namespace {

constexpr Duration kStopMax = std::chrono::seconds(2);

// What workers share among themselves; the engine only makes it and passes it on.
struct PeerMemory {
  std::vector<shm::Mapping> collectives;  // By stage; empty without tensor parallelism.
  std::vector<shm::Mapping> pipes;        // [boundary between stages][TP rank]
};

StatusOr<PeerMemory> make_peer_memory(uint32_t tp, uint32_t pp) {
  PeerMemory memory;
  for (uint32_t stage = 0; tp > 1 && stage < pp; ++stage) {
    TRIREME_ASSIGN_OR_RETURN(auto mapping, worker::ShmCollective::create_memory(tp));
    memory.collectives.push_back(std::move(mapping));
  }
  for (uint32_t pipe = 0; pipe < (pp - 1) * tp; ++pipe) {
    TRIREME_ASSIGN_OR_RETURN(auto mapping, worker::ShmPipe::create_memory());
    memory.pipes.push_back(std::move(mapping));
  }
  return memory;
}

}  // namespace

Status MpExecutor::start_workers() {
  const uint32_t tp = options().parallel.tensor_parallel_size;
  const uint32_t pp = options().parallel.pipeline_parallel_size;
  TRIREME_ASSIGN_OR_RETURN(const std::string program, process::find_sibling_binary("worker"));
  TRIREME_ASSIGN_OR_RETURN(const PeerMemory memory, make_peer_memory(tp, pp));
  for (uint32_t rank = 0; rank < worker_count(); ++rank) {
    const uint32_t stage = rank / tp;
    worker::WorkerFlags flags{.steps_fd = steps().fd(), .results_fd = results().fd(), .rank = rank};
    if (tp > 1) flags.collective_fd = memory.collectives[stage].fd();
    if (stage > 0) flags.pipe_in_fd = memory.pipes[rank - tp].fd();
    if (stage + 1 < pp) flags.pipe_out_fd = memory.pipes[rank].fd();
    process::ChildOptions child;
    child.argv = worker::worker_arguments(flags);
    child.argv.insert(child.argv.begin(), program);
    child.argv.insert(child.argv.end(), command_line_.begin(), command_line_.end());
    for (const int fd : {flags.steps_fd, flags.results_fd, flags.collective_fd, flags.pipe_in_fd,
                         flags.pipe_out_fd}) {
      if (fd >= 0) child.inherited_fds.push_back(fd);
    }
    auto spawned = process::ChildProcess::spawn(child);
    if (!spawned.ok()) {
      return annotate(spawned.status(), "start worker rank " + std::to_string(rank));
    }
    workers_.push_back(*std::move(spawned));
    pidfds_.push_back(workers_.back().pidfd());
    step_sender().watch_reader(rank, workers_.back().pidfd());
  }
  return absl::OkStatus();
}

Status MpExecutor::check_workers() {
  for (std::size_t rank = 0; rank < workers_.size(); ++rank) {
    const auto exit = workers_[rank].poll_exit();
    if (!exit) continue;
    return error(StatusCode::kUnavailable, "worker rank %u (pid %d): %s", rank,
                 workers_[rank].pid(), exit->text());
  }
  return absl::OkStatus();
}

void MpExecutor::stop_workers(bool is_broken) noexcept {
  const Deadline deadline = Deadline::after(is_broken ? Duration::zero() : kStopMax);
  for (process::ChildProcess& worker : workers_) {
    if (!worker.wait(deadline).ok()) worker.send_signal(SIGKILL);
  }
  workers_.clear();  // Reaps them.
  pidfds_.clear();
}

}  // namespace trireme::engine
