#include "engine_core/executor.h"
#include "engine_core/executor/sim.h"

namespace trireme::engine {

StatusOr<std::unique_ptr<Executor>> make_executor(const ServeOptions& options,
                                                  const std::vector<std::string>& command_line) {
  (void)command_line;
  if (options.parallel.executor == trireme::Executor::kSim) {
    TRIREME_ASSIGN_OR_RETURN(const SimProfile profile,
                             SimProfile::parse(options.worker.sim_profile));
    return std::make_unique<SimExecutor>(options, profile);
  }
  return error(StatusCode::kUnimplemented, "--distributed-executor-backend: only sim is built");
}

}  // namespace trireme::engine
