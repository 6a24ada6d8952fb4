// One-way latency of the shared-memory queue, and what a waiting reader costs.
//
//   spinning   the reader looks without pause; a record every 20 µs       budget p50 < 1 µs
//   parked     the reader sleeps in the kernel; a record every 1 ms       budget p50 < 15 µs
//   idle       CPU time of a reader that waits one second                 budget 0 %
//
// Sender and reader are threads pinned to two CPUs (the ring does not know threads from processes).
// A record carries the time it was sent. Best and median of several runs: a busy machine only adds.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "common/shm/shm_queue.h"

namespace {

using namespace trireme;

constexpr int kRuns = 7;
constexpr std::size_t kRecordBytes = 64;

struct Mode {
  const char* name;
  Duration spin_max;
  Duration interval;
  int records;
};
constexpr Mode kModes[] = {
    {"spinning", std::chrono::seconds(1), std::chrono::microseconds(20), 20'000},
    {"parked", Duration::zero(), std::chrono::milliseconds(1), 1'000},
};

struct Result {
  double p50_us;
  double p99_us;
};

void pin_to_cpu(unsigned cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu % std::max(1U, std::thread::hardware_concurrency()), &cpus);
  ::pthread_setaffinity_np(::pthread_self(), sizeof(cpus), &cpus);
}

Result percentiles(std::vector<Duration> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    const auto index = static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1));
    return static_cast<double>(samples[index].count()) / 1000;
  };
  return {at(0.5), at(0.99)};
}

Result measure_latency(const shm::QueueMemory& memory, const Mode& mode) {
  std::vector<Duration> samples;
  std::jthread reader([&] {
    pin_to_cpu(1);
    shm::ShmReceiver receiver(memory, 0, mode.spin_max);
    for (int i = 0; i < mode.records; ++i) {
      const auto record = receiver.receive(Deadline::never());
      const Instant received_at = now();
      Instant sent_at;
      std::memcpy(&sent_at, record->data(), sizeof(sent_at));
      receiver.release();
      samples.push_back(received_at - sent_at);
    }
  });
  pin_to_cpu(0);
  shm::ShmSender sender(memory, 0);
  std::byte record[kRecordBytes] = {};
  for (int i = 0; i < mode.records; ++i) {
    const Instant next = now() + mode.interval;
    if (mode.interval >= std::chrono::milliseconds(1)) std::this_thread::sleep_until(next);
    while (now() < next) shm::pause_cpu();
    const Instant sent_at = now();
    std::memcpy(record, &sent_at, sizeof(sent_at));
    if (!sender.send(record, Deadline::never()).ok()) std::abort();
  }
  reader.join();
  return percentiles(std::move(samples));
}

double measure_idle_percent(const shm::QueueMemory& memory) {
  constexpr Duration kTime = std::chrono::seconds(1);
  const auto cpu_seconds = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
  };
  const double before = cpu_seconds();
  shm::ShmReceiver receiver(memory, 0);
  if (receiver.receive(Deadline::after(kTime)).ok()) std::abort();
  return 100 * (cpu_seconds() - before);
}

}  // namespace

int main() {
  for (const Mode& mode : kModes) {
    std::vector<Result> results;
    for (int run = 0; run < kRuns; ++run) {
      const auto memory = shm::QueueMemory::create("shm_ring_bench", {});
      if (!memory.ok()) return 1;
      results.push_back(measure_latency(*memory, mode));
    }
    std::sort(results.begin(), results.end(),
              [](const Result& a, const Result& b) { return a.p50_us < b.p50_us; });
    const Result& best = results.front();
    const Result& median = results[results.size() / 2];
    std::printf("%-9s best p50 %.3f us, p99 %.3f us; median run p50 %.3f us, p99 %.3f us\n",
                mode.name, best.p50_us, best.p99_us, median.p50_us, median.p99_us);
  }
  const auto memory = shm::QueueMemory::create("shm_ring_bench", {});
  if (!memory.ok()) return 1;
  std::printf("idle      %.4f %% of one CPU\n", measure_idle_percent(*memory));
}
