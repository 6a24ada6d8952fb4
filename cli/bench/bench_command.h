// trireme bench serve | latency | throughput: the commands; each returns the process' exit code:
// 0, 1: could not measure, 2: wrong command line, 130: ended by Ctrl-C after showing what there
// was.
#pragma once

#include <span>

namespace trireme::bench {

using Arguments = std::span<char* const>;  // After the command's name.

int run_bench(Arguments arguments);
int run_serve(Arguments arguments);
int run_latency(Arguments arguments);
int run_throughput(Arguments arguments);

inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongFlags = 2;
inline constexpr int kExitInterrupted = 130;

}  // namespace trireme::bench
