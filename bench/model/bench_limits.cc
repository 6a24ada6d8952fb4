// bench_limits: what the machine can do now, one line of JSON. See limits.h.
//
//   bench_limits [THREADS]     default: all cores
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "bench/model/limits.h"

int main(int argc, char** argv) {
  const int asked = argc > 1 ? std::atoi(argv[1]) : 0;
  const int threads = asked > 0 ? asked : static_cast<int>(std::thread::hardware_concurrency());
  std::vector<int> cpus(std::max(threads, 1));
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(static_cast<uint32_t>(cpus.size()), cpus);
  const trireme::bench::Limits limits = trireme::bench::measure_limits(pool);
  std::printf(
      "{\"read_gb_s\": %.2f, \"bf16_gflop_s\": %.0f, \"bf16_instruction\": \"%s\", "
      "\"threads\": %zu}\n",
      limits.read_gigabytes, limits.gigaflops, limits.instruction, cpus.size());
  return 0;
}
