// engine-core: one data-parallel rank, or (without --internal-engine-rank) the node agent that
// starts and watches the ranks of its node. On nodes after the first of --nnodes there is no
// engine, only workers: the same two roles for these.
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "common/device/device_choice.h"
#include "common/hub/resolve_model.h"
#include "common/log.h"
#include "common/options/serve_flags.h"
#include "common/process/death_pipe.h"
#include "common/process/last_word.h"
#include "common/process/parent_watch.h"
#include "common/process/pulse.h"
#include "common/random.h"
#include "common/signals.h"
#include "engine_core/node_agent/node_agent.h"
#include "engine_core/node_agent/worker_node.h"
#include "engine_core/rank_main.h"
#include "engine_core/span/launched.h"
#include "engine_core/span/remote_ranks.h"
#include "proto/member/cluster_context.h"

namespace trireme::engine {
namespace {

Status run_one_rank(const ServeOptions& options, std::span<const char* const> arguments,
                    StopSignal& stop, const process::Pulse& pulse, bool is_launched) {
  log::start("engine-core", static_cast<int>(options.internal.engine_rank));
  const std::vector<std::string> command_line(arguments.begin(), arguments.end());
  if (options.parallel.node_rank == 0) return run_rank(options, command_line, stop, pulse);
  return run_remote_ranks(options, command_line, stop,
                          {.is_launched = is_launched, .pulse = pulse});
}

// A rank that mpirun, srun or torchrun started.
Status run_launched_rank(const ServeOptions& asked, std::span<const char* const> arguments,
                         StopSignal& stop) {
  const Environment environment = [](const char* name) { return std::getenv(name); };
  TRIREME_ASSIGN_OR_RETURN(const LaunchedRank launched, find_launched_rank(environment));
  auto more = launched_arguments(asked, launched, environment);
  // What is wrong for all is said once.
  if (!more.ok()) return launched.rank == 0 ? more.status() : absl::OkStatus();
  TRIREME_RETURN_IF_ERROR(process::end_with_parent());
  TRIREME_ASSIGN_OR_RETURN(std::string directory, hub::resolve_model(asked.model));
  TRIREME_ASSIGN_OR_RETURN(std::string draft, hub::resolve_draft_model(asked));
  more->insert(more->end(), {"--internal-model-directory", std::move(directory)});
  more->insert(more->end(), {"--internal-draft-directory", std::move(draft)});
  std::vector<const char*> all(arguments.begin(), arguments.end());
  for (const std::string& argument : *more) all.push_back(argument.c_str());
  TRIREME_ASSIGN_OR_RETURN(ServeOptions options, parse_serve_flags(all));
  TRIREME_ASSIGN_OR_RETURN(const DeviceChoice choice, choose_device(options));
  if (!choice.why.empty()) log::tell("device", choice.why);
  options.worker.device = choice.device;
  all.insert(all.end(), {"--device", name_of(choice.device)});
  return run_one_rank(options, all, stop, {}, /*is_launched=*/true);
}

Status run(int argc, char** argv) {
  // API keys are for front ends; here they would only show on the command lines of our children.
  const std::vector<const char*> arguments = without_flag({argv + 1, argv + argc}, "api-key");
  std::vector<std::string> notices;
  TRIREME_ASSIGN_OR_RETURN(ServeOptions options, parse_serve_flags(arguments, &notices));
  TRIREME_ASSIGN_OR_RETURN(StopSignal stop, StopSignal::install());
  TRIREME_RETURN_IF_ERROR(process::arm_inherited_death_pipe());
  TRIREME_ASSIGN_OR_RETURN(const auto pulse, process::Pulse::take_inherited());
  if (options.parallel.executor == Executor::kExternalLauncher) {
    return run_launched_rank(options, arguments, stop);
  }
  if (options.internal.is_engine_rank) {
    return run_one_rank(options, arguments, stop, pulse, /*is_launched=*/false);
  }
  std::vector<const char*> for_ranks(arguments.begin(), arguments.end());
  std::string directory = options.internal.model_directory;
  std::string draft;
  std::string launch;
  if (directory.empty()) {
    for (const std::string& notice : notices) log::tell("flag_notice", notice);
    TRIREME_ASSIGN_OR_RETURN(const DeviceChoice choice, choose_device(options));
    options.worker.device = choice.device;
    TRIREME_ASSIGN_OR_RETURN(directory, hub::resolve_model(options.model));
    TRIREME_ASSIGN_OR_RETURN(draft, hub::resolve_draft_model(options));
    if (!choice.why.empty()) log::tell("device", choice.why);
    TRIREME_RETURN_IF_ERROR(member::fix_cluster_key(options));
    options.internal.launch = entropy64();
    launch = std::to_string(options.internal.launch);
    for_ranks.insert(for_ranks.end(),
                     {"--internal-model-directory", directory.c_str(), "--internal-draft-directory",
                      draft.c_str(), "--internal-launch", launch.c_str(), "--device",
                      name_of(options.worker.device)});
  }
  const bool has_engine = options.parallel.node_rank == 0;
  return has_engine ? run_node_agent(options, for_ranks, stop, pulse)
                    : run_worker_node(options, for_ranks, stop);
}

}  // namespace
}  // namespace trireme::engine

int main(int argc, char** argv) {
  const std::string text = trireme::help_or_version("engine-core", {argv + 1, argv + argc});
  if (!text.empty()) {
    std::fputs(text.c_str(), stdout);
    return EXIT_SUCCESS;
  }
  trireme::log::start("engine-core");
  return trireme::process::end_with(trireme::engine::run(argc, argv));
}
