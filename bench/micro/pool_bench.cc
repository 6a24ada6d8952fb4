// pool_bench: the thread pool beside neighbours.
//
//   pool_bench [SECONDS]          beside, say: taskset -c 1 sh -c 'while :; do :; done' &
//
// Jobs as those of a decode step: 16 pieces of about 6 µs on two bound threads, then 2 µs alone.
// Shown are jobs a second and the longest one.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "common/clock.h"
#include "worker/thread_pool.h"

namespace {

void compute(uint32_t rounds) {
  volatile uint32_t sum = 0;
  for (uint32_t i = 0; i < rounds; ++i) sum = sum + 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace trireme;
  constexpr int kCpus[] = {0, 1};
  constexpr uint32_t kPieces = 16;
  constexpr uint32_t kPieceRounds = 6000;
  constexpr uint32_t kAloneRounds = 2000;
  const std::chrono::duration<double> wanted(argc > 1 ? std::atof(argv[1]) : 2.0);
  worker::ThreadPool pool(2, kCpus);
  const Instant begin = now();
  Instant last = begin;
  Duration longest{};
  uint64_t jobs = 0;
  for (; last - begin < wanted; ++jobs) {
    pool.run(kPieces, [](uint32_t) { compute(kPieceRounds); });
    compute(kAloneRounds);
    const Instant end = now();
    longest = std::max<Duration>(longest, end - last);
    last = end;
  }
  std::printf("%.0f jobs/s, the longest took %.1f ms\n",
              static_cast<double>(jobs) / std::chrono::duration<double>(last - begin).count(),
              std::chrono::duration<double, std::milli>(longest).count());
  return 0;
}
