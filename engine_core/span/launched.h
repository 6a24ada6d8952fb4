// Executor external_launcher: ranks that mpirun, srun or torchrun started, each by itself.
//
//   mpirun -n 4 engine-core MODEL --distributed-executor-backend external_launcher -tp 2 -pp 2 ...
//
// Launcher ranks 0 .. tp*pp-1 are the workers of the first engine of --data-parallel-size, the next
// as many those of the second, and so on; the first of each group has the engine too. A rank is
// then what --nnodes and --node-rank would make of it, with a place of its own: the same rendezvous
// (--master-addr or MASTER_ADDR, --master-port or MASTER_PORT), and no shared memory between ranks.
// Nobody starts anything again here: that is the launcher's. The front end is elsewhere
// (api-server ... --data-parallel-size-local 0). Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme::engine {

// Gives null for a variable that is not set; std::getenv.
using Environment = std::function<const char*(const char*)>;

struct LaunchedRank {
  uint32_t rank = 0;
  uint32_t size = 1;
  uint32_t local_rank = 0;  // Among those on this node.
  uint32_t local_size = 1;
};

// By the variables of Open MPI, PMI (MPICH, Intel MPI), torchrun and Slurm, in this order; but what
// torchrun itself has set comes first.
[[nodiscard]] StatusOr<LaunchedRank> find_launched_rank(const Environment& environment);

// What to append to the command line, so that it says what this rank is. kInvalidArgument: their
// number is not what the flags need, or they are on several nodes and --master-addr is not given.
[[nodiscard]] StatusOr<std::vector<std::string>> launched_arguments(const ServeOptions& options,
                                                                    const LaunchedRank& launched,
                                                                    const Environment& environment);

}  // namespace trireme::engine
