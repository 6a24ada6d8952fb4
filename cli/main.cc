// trireme: the front door. Which subcommands there are is the table below; each lies in its own
// file.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "cli/bench/bench_command.h"
#include "cli/command.h"
#include "cli/simulate/simulate_command.h"
#include "cli/top/top_command.h"
#include "common/options/nearest_name.h"
#include "common/status.h"

namespace trireme::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view arguments;
  std::string_view help;
  int (*run)(Arguments);
};

constexpr Command kCommands[] = {
    {"serve", "MODEL [flags]", "serve a model; --help lists vLLM's flags", run_serve},
    {"bench", "KIND [flags]", "measure: serve, latency, throughput", bench::run_bench},
    {"top", "[flags]", "what the cluster is at, and who holds it up", top::run_top},
    {"simulate", "[flags]", "the lockstep protocol under faults, or at scale", sim::run_simulate},
    {"pull", "MODEL [REVISION]", "download a model into the hub cache", run_pull},
    {"key", "new", "print a fresh cluster key", run_key},
    {"layout", "MODEL [flags]", "check a serve command line, for scripts", run_layout},
    {"version", "", "print the version", run_version},
};

void print_help(std::FILE* stream) {
  std::fputs("usage: trireme COMMAND ...\n\n", stream);
  for (const Command& command : kCommands) {
    const std::string_view n = command.name;
    const std::string_view a = command.arguments;
    const std::string_view h = command.help;
    std::fprintf(stream, "  %-8.*s %-18.*s %.*s\n", static_cast<int>(n.size()), n.data(),
                 static_cast<int>(a.size()), a.data(), static_cast<int>(h.size()), h.data());
  }
}

int refuse(std::string_view name) {
  std::vector<std::string_view> known = {"help", "--help", "--version"};
  for (const Command& command : kCommands) known.push_back(command.name);
  const std::string_view nearest = nearest_name(name, known);
  const std::string hint =
      nearest.empty() ? "see trireme --help" : absl::StrFormat("did you mean '%s'?", nearest);
  std::fputs(absl::StrFormat("trireme: unknown command '%s'; %s\n", name, hint).c_str(), stderr);
  return 2;
}

}  // namespace

int dispatch(Arguments arguments) {
  if (arguments.empty()) return print_help(stderr), 2;
  const std::string_view name(arguments[0]);
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(arguments.subspan(1));
  }
  if (name == "--version" || name == "-v") return run_version({});
  if (name == "help" || name == "--help" || name == "-h") return print_help(stdout), 0;
  return refuse(name);
}

}  // namespace trireme::cli

int main(int argc, char** argv) {
  return trireme::cli::dispatch({argv + 1, static_cast<std::size_t>(argc - 1)});
}
