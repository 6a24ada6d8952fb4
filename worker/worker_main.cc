#include "worker/worker_main.h"

#include <csignal>
#include <cstdio>
#include <span>
#include <string>

#include "common/log.h"
#include "common/options/serve_flags.h"
#include "common/process/death_pipe.h"
#include "common/process/last_word.h"
#include "worker/worker_flags.h"
#include "worker/worker_process.h"

namespace trireme::worker {
namespace {

Status run(std::span<const char* const> arguments, DeviceFactory& factory) {
  TRIREME_RETURN_IF_ERROR(process::arm_inherited_death_pipe());
  TRIREME_ASSIGN_OR_RETURN(const WorkerCommandLine line, parse_worker_arguments(arguments));
  TRIREME_ASSIGN_OR_RETURN(const ServeOptions options, parse_serve_flags(line.serve_arguments));
  log::start("worker", static_cast<int>(options.internal.engine_rank),
             static_cast<int>(line.flags.rank));
  return run_worker_process(line.flags, options, factory);
}

}  // namespace

int worker_main(std::string_view program, int argc, const char* const* argv,
                DeviceFactory& factory) {
  const auto arguments = std::span(argv, static_cast<std::size_t>(argc)).subspan(1);
  const std::string text = help_or_version(program, arguments);
  if (!text.empty()) {
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  // Ctrl-C goes to the whole terminal; the engine stops its workers in order.
  std::signal(SIGINT, SIG_IGN);
  log::start("worker");
  return process::end_with(run(arguments, factory));
}

}  // namespace trireme::worker
