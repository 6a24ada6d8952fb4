#include "cli/bench/bench_command.h"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/options/nearest_name.h"
#include "common/status.h"

namespace trireme::bench {
namespace {

constexpr char kHelp[] =
    "usage: trireme bench COMMAND ...      (COMMAND --help lists its flags, which are vLLM's)\n"
    "\n"
    "  serve        load on a server that runs: throughput and latencies as its clients see them\n"
    "  latency      starts the model; time of one batch, again and again\n"
    "  throughput   starts the model; requests and tokens per second when all come at once\n"
    "\n"
    "  trireme bench serve --port 8000 --num-prompts 200 --request-rate 20 \\\n"
    "      --random-input-len 128 --random-output-len 64\n"
    "  trireme bench latency models/demo --batch-size 8 --input-len 32 --output-len 128\n"
    "  trireme bench throughput models/demo --num-prompts 64 --input-len 256 --output-len 64\n";

}  // namespace

int run_bench(Arguments arguments) {
  const std::string_view name = arguments.empty() ? "" : arguments[0];
  if (name == "serve") return run_serve(arguments.subspan(1));
  if (name == "latency") return run_latency(arguments.subspan(1));
  if (name == "throughput") return run_throughput(arguments.subspan(1));
  const bool wants_help = name == "--help" || name == "-h" || name == "help";
  if (wants_help || name.empty()) {
    std::fputs(kHelp, wants_help ? stdout : stderr);
    return wants_help ? 0 : kExitWrongFlags;
  }
  const std::vector<std::string_view> known = {"serve", "latency", "throughput"};
  const std::string_view nearest = nearest_name(name, known);
  const std::string hint = nearest.empty() ? "there are serve, latency and throughput"
                                           : absl::StrFormat("did you mean '%s'?", nearest);
  std::fputs(absl::StrFormat("trireme bench: unknown command '%s'; %s\n", name, hint).c_str(),
             stderr);
  return kExitWrongFlags;
}

}  // namespace trireme::bench
