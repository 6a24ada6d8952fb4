#include "engine_core/span/launched.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "common/zmq/link_safety.h"
#include "proto/member/cluster_shape.h"

namespace trireme::engine {
namespace {

struct LauncherVariables {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};
constexpr LauncherVariables kTorchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr LauncherVariables kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    kTorchrun,
    {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"},
};

std::optional<uint32_t> number_in(const Environment& environment, const char* name) {
  const char* const text = environment(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view value(text);
  uint32_t number = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool is_whole = code == std::errc() && end == value.data() + value.size();
  return is_whole ? std::optional(number) : std::nullopt;
}

std::optional<LaunchedRank> read(const Environment& environment, const LauncherVariables& names) {
  const auto rank = number_in(environment, names.rank);
  const auto size = number_in(environment, names.size);
  if (!rank || !size || *rank >= *size) return std::nullopt;
  // A launcher that does not say who shares a node: all do.
  const auto local_rank = number_in(environment, names.local_rank);
  const auto local_size = number_in(environment, names.local_size);
  const bool is_told = local_rank && local_size && *local_rank < *local_size;
  return LaunchedRank{.rank = *rank,
                      .size = *size,
                      .local_rank = is_told ? *local_rank : *rank,
                      .local_size = is_told ? *local_size : *size};
}

// A flag that was left at its default gives way to the launcher's variable.
std::string master_address(const ServeOptions& options, const Environment& environment) {
  const char* const variable = environment("MASTER_ADDR");
  const bool is_default = options.parallel.master_address == ParallelOptions{}.master_address;
  return is_default && variable != nullptr ? variable : options.parallel.master_address;
}

uint32_t master_port(const ServeOptions& options, const Environment& environment) {
  // torchrun's own agent may sit on MASTER_PORT.
  const char* const agent = environment("TORCHELASTIC_USE_AGENT_STORE");
  const bool is_taken = agent != nullptr && std::string_view(agent) == "True";
  const bool is_default = options.parallel.master_port == ParallelOptions{}.master_port;
  const auto variable = number_in(environment, "MASTER_PORT");
  return is_default && !is_taken && variable ? *variable : options.parallel.master_port;
}

}  // namespace

StatusOr<LaunchedRank> find_launched_rank(const Environment& environment) {
  if (environment("TORCHELASTIC_RUN_ID") != nullptr) {
    if (const auto launched = read(environment, kTorchrun)) return *launched;
  }
  for (const LauncherVariables& names : kLaunchers) {
    if (const auto launched = read(environment, names)) return *launched;
  }
  return error(StatusCode::kInvalidArgument,
               "--distributed-executor-backend external_launcher: no rank in the environment "
               "(OMPI_COMM_WORLD_RANK, PMI_RANK, RANK, SLURM_PROCID): start engine-core by mpirun, "
               "srun or torchrun, and the front by api-server --data-parallel-size-local 0");
}

StatusOr<std::vector<std::string>> launched_arguments(const ServeOptions& options,
                                                      const LaunchedRank& launched,
                                                      const Environment& environment) {
  const ParallelOptions& parallel = options.parallel;
  const uint32_t world = parallel.tensor_parallel_size * parallel.pipeline_parallel_size;
  const member::RankRange engines = member::local_ranks(options);
  if (uint64_t{engines.count} * world != launched.size) {
    return error(StatusCode::kInvalidArgument,
                 "the launcher started %u ranks, but %u engines (--data-parallel-size) x "
                 "--tensor-parallel-size %u x --pipeline-parallel-size %u need %u",
                 launched.size, engines.count, parallel.tensor_parallel_size,
                 parallel.pipeline_parallel_size, uint64_t{engines.count} * world);
  }
  const std::string master = master_address(options, environment);
  if (launched.local_size < launched.size && world > 1 && zmq::is_loopback(master)) {
    return error(StatusCode::kInvalidArgument,
                 "the launcher's ranks are on several nodes: give the address of the node of rank "
                 "0 by --master-addr (it is %s)",
                 master);
  }
  return std::vector<std::string>{
      "--distributed-executor-backend",
      "mp",
      "--headless",
      "--nnodes",
      std::to_string(world),
      "--node-rank",
      std::to_string(launched.rank % world),
      "--master-addr",
      master,
      "--master-port",
      std::to_string(master_port(options, environment)),
      "--internal-engine-rank",
      std::to_string(engines.first + launched.rank / world),
      "--internal-node-worker-index",
      std::to_string(launched.local_rank),
      "--internal-node-worker-count",
      std::to_string(launched.local_size),
  };
}

}  // namespace trireme::engine
