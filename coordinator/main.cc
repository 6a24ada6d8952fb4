// coordinator: membership, load board and waves of one cluster. Its state is soft: kill it, start
// it again, and the members tell it what it needs to know.
#include <cstdio>
#include <span>
#include <string>

#include "common/log.h"
#include "common/options/serve_flags.h"
#include "common/process/death_pipe.h"
#include "common/process/last_word.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/zmq/context.h"
#include "coordinator/coordinator_loop.h"
#include "proto/member/cluster_context.h"

namespace {

trireme::Status run(std::span<const char* const> args) {
  TRIREME_RETURN_IF_ERROR(trireme::process::arm_inherited_death_pipe());
  TRIREME_ASSIGN_OR_RETURN(const auto pulse, trireme::process::Pulse::take_inherited());
  TRIREME_ASSIGN_OR_RETURN(auto stop, trireme::StopSignal::install());
  TRIREME_ASSIGN_OR_RETURN(const auto options, trireme::parse_serve_flags(args));
  TRIREME_ASSIGN_OR_RETURN(const auto context, trireme::member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(const auto loop,
                           trireme::coordinator::CoordinatorLoop::create(*context, options));
  // Of one that an api-server started, the api-server tells.
  if (options.internal.listen_fd < 0) {
    trireme::log::tell("coordinator_alone",
                       absl::StrFormat("coordinator of --data-parallel-size %u at %s, without a "
                                       "front end of its own; ready until told to stop",
                                       options.parallel.data_parallel_size, loop->endpoint()));
  }
  return loop->run(stop, pulse);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::log::start("coordinator");
  const std::span<const char* const> args(argv + 1, static_cast<std::size_t>(argc - 1));
  if (const std::string text = trireme::help_or_version("coordinator", args); !text.empty()) {
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  return trireme::process::end_with(run(args));
}
