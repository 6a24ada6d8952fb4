// One-way latency of the shared-memory queue, what a waiting reader costs, and what the machine
// itself takes to wake a thread:
//
//   spinning       the reader looks without pause; a record every 20 µs      budget p50 < 1 µs
//   parked         the reader sleeps in the kernel; a record every 1 ms      budget p50 < 15 µs
//   futex          a bare FUTEX_WAKE every 1 ms: what no queue can undercut
//   futex_awake    the same while an idle-priority thread keeps the sleeper's CPU from halting: the
//                  difference to `futex` is the CPU's (a virtual machine's host's) way out of sleep
//   idle           CPU time of a reader that waits one second                budget 0 %
//
// Sender and reader are threads pinned to two CPUs (the ring does not know threads from processes).
// A record carries the time it was sent.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/micro/figure.h"
#include "common/shm/shm_queue.h"

namespace {

using namespace trireme;

constexpr std::size_t kRecordBytes = 64;
constexpr unsigned kSenderCpu = 0;
constexpr unsigned kReaderCpu = 1;
constexpr Duration kParkedInterval = std::chrono::milliseconds(1);
constexpr int kParkedRecords = 1'000;

struct Mode {
  const char* name;
  Duration spin_max;
  Duration interval;
  int records;
};
constexpr Mode kModes[] = {
    {"spinning", std::chrono::seconds(1), std::chrono::microseconds(20), 20'000},
    {"parked", Duration::zero(), kParkedInterval, kParkedRecords},
};

void pin_to_cpu(unsigned cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu % std::max(1U, std::thread::hardware_concurrency()), &cpus);
  ::pthread_setaffinity_np(::pthread_self(), sizeof(cpus), &cpus);
}

void print_latency(const std::string& name, const std::vector<Duration>& samples) {
  for (const auto& [suffix, part] : {std::pair{"_p50_us", 0.5}, {"_p99_us", 0.99}}) {
    bench::print_figure(("shm." + name + suffix).c_str(),
                        bench::microseconds(bench::percentile(samples, part)), "us");
  }
}

void send_at_intervals(Duration interval, int count, const std::function<void()>& send) {
  pin_to_cpu(kSenderCpu);
  for (int i = 0; i < count; ++i) {
    const Instant next = now() + interval;
    if (interval >= kParkedInterval) std::this_thread::sleep_until(next);
    while (now() < next) shm::pause_cpu();
    send();
  }
}

std::vector<Duration> measure_queue(const shm::QueueMemory& memory, const Mode& mode) {
  std::vector<Duration> samples;
  std::thread reader([&] {
    pin_to_cpu(kReaderCpu);
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
  shm::ShmSender sender(memory, 0);
  send_at_intervals(mode.interval, mode.records, [&] {
    std::byte record[kRecordBytes] = {};
    const Instant sent_at = now();
    std::memcpy(record, &sent_at, sizeof(sent_at));
    if (!sender.send(record, Deadline::never()).ok()) std::abort();
  });
  reader.join();
  return samples;
}

std::vector<Duration> measure_futex() {
  std::vector<Duration> samples;
  std::atomic<uint32_t> word{0};
  std::atomic<Instant> sent_at{};
  std::thread reader([&] {
    pin_to_cpu(kReaderCpu);
    for (uint32_t seen = 0; seen < kParkedRecords; ++seen) {
      while (word.load() == seen) {
        ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
      }
      samples.push_back(now() - sent_at.load());
    }
  });
  send_at_intervals(kParkedInterval, kParkedRecords, [&] {
    sent_at = now();
    ++word;
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  });
  reader.join();
  return samples;
}

// Gives way to everything else on its CPU, and never lets it halt.
class IdleSpinner {
 public:
  explicit IdleSpinner(unsigned cpu)
      : thread_([cpu](const std::stop_token& stop) {
          pin_to_cpu(cpu);
          const sched_param none{};
          ::sched_setscheduler(0, SCHED_IDLE, &none);
          while (!stop.stop_requested()) shm::pause_cpu();
        }) {}

 private:
  std::jthread thread_;
};

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
  const auto memory = shm::QueueMemory::create("shm_queue_bench", {});
  if (!memory.ok()) return 1;
  for (const Mode& mode : kModes) {
    const auto ring = shm::QueueMemory::create("shm_queue_bench", {});
    if (!ring.ok()) return 1;
    print_latency(mode.name, measure_queue(*ring, mode));
  }
  print_latency("futex", measure_futex());
  {
    const IdleSpinner spinner(kReaderCpu);
    print_latency("futex_awake", measure_futex());
  }
  bench::print_figure("shm.idle_percent", measure_idle_percent(*memory), "% of one CPU");
}
