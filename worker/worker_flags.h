// What an engine-core adds to its own command line when it starts a worker process:
//
//   worker --internal-worker-fds steps=5,results=6,collective=7 --internal-worker-rank 1
//          <the engine's own command line>
//
//   steps       the engine's queue (StepInput, KvInit, StopWorker); reader: rank % readers
//   results     the queue of answers (WorkerReady, StepResult); ring: rank % rings
//   collective  memfd of the tensor-parallel group; absent when --tensor-parallel-size is 1
//   pipe_in, pipe_out  memfds of hidden rows from the stage before and to the stage after; absent
//               on the first and last stage
//   life        memory for the worker's sign of life, where its parent is not its engine
//   mesh        memory of the links between the places of the node whose experts are divided, of
//               this worker's stage (comm/shm_mesh.h); absent: they are not
//   weights     shm::SharedImage of the weights, for all workers of the node in this place of the
//               model; absent: in memory of its own
//
// Where the engine's workers are on several nodes, also
//
//   --internal-worker-group 4711           the life of the engine that this is for
//   --internal-worker-engine I,STEPS,RESULTS   instead of steps and results: endpoints of the
//   engine
//                                          on another node, where this worker is number I
//   --internal-worker-peer in:RANK:FD:ENDPOINT  (one for each) what comes from a rank, and
//   --internal-worker-peer out:RANK:FD:ENDPOINT  what goes to it. FD alone (no ENDPOINT): shared
//       memory. With an ENDPOINT: in listens there with the socket FD, out (FD -1) connects.
//       For the ranks of a tensor-parallel group that is not on one node, and for the stages before
//       and after on another node.
//
// rank = tp_rank + tp_size * pp_rank. Which cores are this worker's follows from the command line
// (cpu_binding.h). Pure: parse and print only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"

namespace trireme::worker {

struct PeerFlags {
  bool is_in = false;
  uint32_t rank = 0;
  int fd = -1;
  std::string endpoint;
  friend bool operator==(const PeerFlags&, const PeerFlags&) = default;
};

struct WorkerFlags {
  int steps_fd = -1;
  int results_fd = -1;
  int collective_fd = -1;
  int pipe_in_fd = -1;
  int pipe_out_fd = -1;
  int life_fd = -1;
  int weights_fd = -1;
  int mesh_fd = -1;
  uint32_t rank = 0;
  uint64_t group = 0;
  std::vector<PeerFlags> peers;
  std::string steps_endpoint;  // Empty: steps_fd and results_fd.
  std::string results_endpoint;
  uint32_t remote_index = 0;

  friend bool operator==(const WorkerFlags&, const WorkerFlags&) = default;
};

struct WorkerCommandLine {
  WorkerFlags flags;
  std::vector<const char*> serve_arguments;  // The rest, in order: for parse_serve_flags.
};

// The arguments that say `flags`, to be put before the serve command line.
[[nodiscard]] std::vector<std::string> worker_arguments(const WorkerFlags& flags);

// Takes the worker's flags out of a command line (without the program's name). kInvalidArgument
// names the flag and the value.
[[nodiscard]] StatusOr<WorkerCommandLine> parse_worker_arguments(
    std::span<const char* const> arguments);

}  // namespace trireme::worker
