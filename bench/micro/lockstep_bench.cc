// How long ranks of one node take to agree on a step: each is a process, and all they do is agree.
//
//   agree_N   from a rank's record to the order that follows from all, median over steps and ranks
// Beside as many cores as ranks; with fewer the ranks take turns, as the workers do then.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "bench/micro/figure.h"
#include "engine_core/lockstep/lockstep_group.h"
#include "engine_core/lockstep/step_board.h"

namespace trireme::bench {
namespace {

constexpr int kWarmup = 2'000;
constexpr int kSteps = 20'000;

// In a process of its own: writes the median in microseconds to `out`.
void run_rank(const engine::StepBoard::Parts& parts, uint32_t rank, uint32_t count, int out) {
  auto memory = shm::Mapping::attach(UniqueFd(::dup(parts.memory.fd())));
  std::vector<UniqueFd> bells;
  for (const UniqueFd& bell : parts.bells) bells.emplace_back(::dup(bell.get()));
  auto board = engine::StepBoard::attach(*std::move(memory), std::move(bells), rank);
  engine::LockstepGroup group(EngineId{rank}, *std::move(board));
  wire::StartWave start{.wave = WaveId{1}};
  for (uint32_t i = 0; i < count; ++i) start.ranks.push_back(i);
  group.on_start(start);
  std::vector<Duration> taken;
  for (int step = 0; step < kWarmup + kSteps; ++step) {
    const Instant begin = now();
    while (!group.advance(/*has_work=*/true, begin)) {
      if (group.spin()) continue;
      group.about_to_wait();
      pollfd bell{group.fd(), POLLIN, 0};
      if (!group.has_news()) (void)::poll(&bell, 1, 1000);
      group.woke_up();
    }
    if (step >= kWarmup) taken.push_back(now() - begin);
    group.on_step_done(false);
  }
  const double median = microseconds(percentile(taken, 0.5));
  (void)!::write(out, &median, sizeof(median));
}

void measure(uint32_t count) {
  auto parts = engine::StepBoard::create(0, count);
  if (!parts.ok()) std::exit(1);
  int pipe[2];
  if (::pipe(pipe) != 0) std::exit(1);
  for (uint32_t rank = 0; rank < count; ++rank) {
    if (::fork() != 0) continue;
    run_rank(*parts, rank, count, pipe[1]);
    ::_exit(0);
  }
  std::vector<double> medians(count);
  for (double& median : medians) {
    if (::read(pipe[0], &median, sizeof(median)) != sizeof(median)) std::exit(1);
  }
  while (::wait(nullptr) > 0) {
  }
  print_figure(("agree_" + std::to_string(count)).c_str(), percentile(medians, 0.5), "us");
}

}  // namespace
}  // namespace trireme::bench

int main() {
  for (const uint32_t count : {2U, 4U, 8U}) trireme::bench::measure(count);
  return 0;
}
