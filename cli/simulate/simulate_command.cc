#include "cli/simulate/simulate_command.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/bench/flag_set.h"
#include "cli/bench/progress.h"
#include "cli/simulate/lockstep_cluster.h"
#include "cli/simulate/scale_cluster.h"
#include "common/clock.h"

namespace trireme::sim {
namespace {

constexpr uint32_t kRanksMax = 1024;
constexpr uint32_t kDelayMax = 10'000'000;

struct Options {
  bool protocol = false;
  bool scale = false;
  uint64_t seeds = 10'000;
  uint64_t first_seed = 0;
  std::optional<uint64_t> seed;
  uint32_t ranks = 0;
  uint32_t threads = std::max(1U, std::thread::hardware_concurrency());
  bool faults = true;
  bool cut = false;
  bool flicker = false;
  ScaleOptions of_scale;
  bool help = false;
};

std::vector<bench::Flag> flags_of(Options& o) {
  return {
      bench::flag("protocol", "", "simulate waves and steps of ranks that step together",
                  o.protocol),
      bench::flag("seeds", "N", "how many histories; default 10000", o.seeds),
      bench::flag("first-seed", "N", "of the first one; default 0", o.first_seed),
      bench::flag("seed", "N", "this one alone, and print its history", o.seed),
      bench::flag(
          "ranks", "N",
          "in every history; default: 1 to 5, by seed; with --scale 4, 32, 128, 512 and 1024",
          o.ranks),
      bench::flag("threads", "N", "histories at a time; default: all cores", o.threads),
      bench::flag("faults", "", "kills, freezes, cut links, restarts; --no-faults: none", o.faults),
      bench::flag("cut", "",
                  "two ranks do not hear each other, the coordinator both; no other faults", o.cut),
      bench::flag("flicker", "",
                  "links are cut for a moment, the coordinator stands still now and then; no other "
                  "faults",
                  o.flicker),
      bench::flag("scale", "",
                  "what a wave's start, a step's agreement and the loss of a rank cost many ranks",
                  o.scale),
      bench::flag("ranks-per-node", "N", "with --scale; default 8", o.of_scale.ranks_per_node),
      bench::flag("network-us", "N", "with --scale: one way between nodes; default 100",
                  o.of_scale.network_us),
      bench::flag("node-us", "N", "with --scale: one way within a node; default 1",
                  o.of_scale.node_us),
      bench::flag("help", "", "this text", o.help),
  };
}

constexpr char kIntroduction[] =
    "usage: trireme simulate --protocol [flags]\n"
    "       trireme simulate --scale [flags]\n\n"
    "Runs the state machines of coordinator and ranks in virtual time. --protocol: with faults\n"
    "drawn from a seed; checks that no request is stranded, no rank waits forever and no step\n"
    "mixes two groups. A failing seed gives the same history again: --seed N prints it.\n"
    "--scale: without faults but one; counts messages, bytes and microseconds.\n\n";

LockstepOptions lockstep_options(const Options& o, uint64_t seed, bool keeps_history) {
  const bool cuts = o.cut || o.flicker;
  const uint32_t drawn = (cuts ? 2 : 1) + static_cast<uint32_t>(seed % (cuts ? 4 : 5));
  return {.seed = seed,
          .rank_count = o.ranks > 0 ? o.ranks : drawn,
          .has_faults = o.faults,
          .has_cut = o.cut,
          .has_flicker = o.flicker,
          .keeps_history = keeps_history};
}

int replay(const Options& o) {
  const LockstepOutcome outcome = simulate_lockstep(lockstep_options(o, *o.seed, true));
  for (const std::string& line : outcome.history) std::printf("%s\n", line.c_str());
  std::printf("%s", absl::StrFormat("seed %u: %s\n", *o.seed,
                                    outcome.failure.empty() ? "all held" : outcome.failure)
                        .c_str());
  return outcome.failure.empty() ? 0 : 1;
}

void add(const LockstepOutcome& outcome, LockstepOutcome& total) {
  total.steps += outcome.steps;
  total.dummy_steps += outcome.dummy_steps;
  total.abandoned_steps += outcome.abandoned_steps;
  total.left_out += outcome.left_out;
}

// Threads take the next seed; each counts for itself, and stops at a seed that fails.
class Sweep {
 public:
  explicit Sweep(const Options& options) : options_(options), parts_(options.threads) {}

  int run() {
    const Instant begin = now();
    std::vector<std::thread> threads;
    for (Part& part : parts_) threads.emplace_back([this, &part] { work(part); });
    bench::Progress progress("seeds", options_.seeds, /*is_enabled=*/true);
    while (running_ > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      progress.update(done_, "", now());
    }
    for (std::thread& thread : threads) thread.join();
    progress.clear();
    return report(std::chrono::duration<double>(now() - begin).count());
  }

 private:
  struct Part {
    LockstepOutcome total;
    uint64_t failed_seed = 0;
    std::string failure;
  };

  void work(Part& part) {
    while (!has_failed_) {
      const uint64_t index = next_++;
      if (index >= options_.seeds) break;
      const uint64_t seed = options_.first_seed + index;
      const LockstepOutcome outcome = simulate_lockstep(lockstep_options(options_, seed, false));
      add(outcome, part.total);
      ++done_;
      if (outcome.failure.empty()) continue;
      part.failed_seed = seed;
      part.failure = outcome.failure;
      has_failed_ = true;
    }
    --running_;
  }

  [[nodiscard]] int report(double seconds) const {
    LockstepOutcome total;
    for (const Part& part : parts_) add(part.total, total);
    std::printf("%s", absl::StrFormat("%u seeds in %.0f s: %u steps ended, %u of them dummies, %u "
                                      "broken off; ranks left out %u times\n",
                                      done_.load(), seconds, total.steps, total.dummy_steps,
                                      total.abandoned_steps, total.left_out)
                          .c_str());
    for (const Part& part : parts_) {
      if (part.failure.empty()) continue;
      const std::string ranks =
          options_.ranks > 0 ? absl::StrFormat(" --ranks %u", options_.ranks) : "";
      std::printf(
          "%s", absl::StrFormat("seed %u failed: %s\n  trireme simulate --protocol --seed "
                                "%u%s%s%s%s\n",
                                part.failed_seed, part.failure, part.failed_seed, ranks,
                                options_.faults ? "" : " --no-faults", options_.cut ? " --cut" : "",
                                options_.flicker ? " --flicker" : "")
                    .c_str());
    }
    return has_failed_ ? 1 : 0;
  }

  const Options& options_;
  std::vector<Part> parts_;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> done_{0};
  std::atomic<std::size_t> running_{parts_.size()};
  std::atomic<bool> has_failed_{false};
};

void print(uint32_t ranks, const ScaleReport& r) {
  const auto megabytes = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  const std::string row = absl::StrFormat(
      "| %u | %u | %u | %u | %u | %.2f | %.2f | %.2f | %u | %u | %u | %u | %.2f | %.2f |\n", ranks,
      r.node_count, r.depth, r.start_us, r.start.messages_out,
      static_cast<double>(r.start_bytes) / 1e3, megabytes(r.start.bytes_out), r.start.cpu_us / 1e3,
      r.agreement_us, r.agreement_messages, r.view_us, r.step_again_us, megabytes(r.loss.bytes_out),
      r.loss.cpu_us / 1e3);
  std::fputs(row.c_str(), stdout);
  std::fflush(stdout);
}

int run_scale(const Options& o) {
  std::fputs(
      "| ranks | nodes | depth | start: us | messages | kB each | MB | CPU ms | step: us | "
      "messages "
      "| loss: us to the view | us to a step | MB | CPU ms |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
      stdout);
  ScaleOptions options = o.of_scale;
  std::vector<uint32_t> sizes = {4, 32, 128, 512, kRanksMax};
  if (o.ranks > 0) sizes = {o.ranks};
  for (const uint32_t ranks : sizes) {
    options.rank_count = ranks;
    print(ranks, simulate_scale(options));
  }
  return 0;
}

Status check(const Options& o) {
  if (o.protocol == o.scale) {
    return error(StatusCode::kInvalidArgument, "say what to simulate: --protocol or --scale");
  }
  if (o.ranks > kRanksMax || o.threads == 0) {
    return error(StatusCode::kInvalidArgument, "--ranks %u: at most %u; --threads %u: at least 1",
                 o.ranks, kRanksMax, o.threads);
  }
  if (o.cut && o.flicker) {
    return error(StatusCode::kInvalidArgument, "--cut and --flicker: one of them");
  }
  if ((o.cut || o.flicker) && o.ranks == 1) {
    return error(StatusCode::kInvalidArgument, "--ranks 1: %s takes at least 2",
                 o.cut ? "--cut" : "--flicker");
  }
  if (!o.scale) return absl::OkStatus();
  if (o.ranks == 1) {
    return error(StatusCode::kInvalidArgument, "--ranks 1: --scale takes at least 2, one is lost");
  }
  const ScaleOptions& scale = o.of_scale;
  if (scale.ranks_per_node == 0 || scale.network_us > kDelayMax || scale.node_us > kDelayMax) {
    return error(StatusCode::kInvalidArgument,
                 "--ranks-per-node %u: at least 1; --network-us %u, --node-us %u: at most %u",
                 scale.ranks_per_node, scale.network_us, scale.node_us, kDelayMax);
  }
  return absl::OkStatus();
}

int refuse(const Status& why) {
  std::fprintf(stderr, "trireme simulate: %s; see trireme simulate --help\n",
               std::string(why.message()).c_str());
  return 2;
}

}  // namespace

int run_simulate(std::span<char* const> arguments) {
  Options options;
  const std::vector<bench::Flag> flags = flags_of(options);
  const Status parsed = bench::parse_flags(flags, {arguments.data(), arguments.size()}, nullptr);
  if (!parsed.ok()) return refuse(parsed);
  if (options.help || arguments.empty()) {
    std::printf("%s%s", kIntroduction, bench::flags_help(flags).c_str());
    return options.help ? 0 : 2;
  }
  if (const Status status = check(options); !status.ok()) return refuse(status);
  if (options.scale) return run_scale(options);
  if (options.seed) return replay(options);
  return Sweep(options).run();
}

}  // namespace trireme::sim
