#include "engine_core/executor.h"
#include "engine_core/executor/mp.h"
#include "engine_core/executor/sim.h"
#include "engine_core/executor/uni.h"

namespace trireme::engine {

StatusOr<std::unique_ptr<Executor>> make_executor(const ServeOptions& options,
                                                  const std::vector<std::string>& command_line) {
  switch (options.parallel.executor) {
    case trireme::Executor::kSim: {
      TRIREME_ASSIGN_OR_RETURN(const SimProfile profile,
                               SimProfile::parse(options.worker.sim_profile));
      return std::make_unique<SimExecutor>(options, profile);
    }
    case trireme::Executor::kUni:
      return std::make_unique<UniExecutor>(options);
    case trireme::Executor::kAuto:
    case trireme::Executor::kMp:
      return std::make_unique<MpExecutor>(options, command_line);
    case trireme::Executor::kExternalLauncher:
      break;
  }
  return error(StatusCode::kInvalidArgument,
               "--distributed-executor-backend external_launcher is for ranks that mpirun, srun or "
               "torchrun started");
}

}  // namespace trireme::engine
