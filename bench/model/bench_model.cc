// bench_model: the forward pass as a share of what the machine can do.
//
//   bench_model [--threads N] [--rounds N] [--model qwen05|tl11] [--case NAME]
//               [--quantization int8|int4] [--cpu-kernels amx|avx512|avx2|plain]
//
// Random bf16 weights of the shapes of Qwen2.5-0.5B and TinyLlama 1.1B; decode steps of 1, 8 and 32
// sequences after 32 tokens, prompts of 128 and 512. A round measures the limits, a case, and the
// limits again. The limit of a case: its weights read once, or its products at the rate of
// vdpbf16ps, whichever takes longer; attention, activations and KV are left out. Shown are medians
// of the rounds; a round's share is of the mean of its own two limits. On a busy machine the share
// by CPU time says more: it leaves out the time in which others had the cores. "typical" is the
// rate over all steps of a round, what a neighbour took included.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "bench/micro/figure.h"
#include "bench/model/limits.h"
#include "bench/model/random_model.h"
#include "common/clock.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/models/load_model.h"

namespace trireme::bench {
namespace {

using worker::ForwardBatch;
using worker::ForwardRow;
using worker::Model;
using worker::ThreadPool;

struct Case {
  const char* name;
  uint32_t sequences;
  uint32_t start;
  uint32_t tokens;  // Of each sequence.
  uint32_t steps;   // In a round.
};

constexpr Case kCases[] = {{"decode1", 1, 32, 1, 16},         {"decode2", 2, 32, 1, 8},
                           {"decode4", 4, 32, 1, 8},          {"decode8", 8, 32, 1, 8},
                           {"decode16", 16, 32, 1, 6},        {"decode32", 32, 32, 1, 5},
                           {"prefill128", 1, 0, 128, 2},      {"prefill512", 1, 0, 512, 1},
                           {"decode8_at2048", 8, 2047, 1, 4}, {"prefill2048", 1, 0, 2048, 1}};

struct Options {
  uint32_t threads = 2;
  uint32_t rounds = 5;
  std::string model;
  std::string test_case;
  std::string kv_cache_dtype = "auto";
  std::string quantization;
  std::string cpu_kernels = "auto";
};

// The same step again and again: what it writes into the KV memory is what was there.
class Step {
 public:
  Step(Model& model, const Case& test) : model_(model), token_count_(test.sequences * test.tokens) {
    const uint32_t end = test.start + test.tokens;
    const uint32_t blocks_each = end / model.kv_shape().block_tokens + 1;
    blocks_.resize(std::size_t{test.sequences} * blocks_each);
    std::iota(blocks_.begin(), blocks_.end(), 0);
    for (uint32_t i = 0; i < token_count_; ++i) {
      tokens_.push_back(static_cast<int32_t>(i * 97 % model.vocabulary_size()));
      positions_.push_back(static_cast<int32_t>(test.start + i % test.tokens));
    }
    for (uint32_t row = 0; row < test.sequences; ++row) {
      rows_.push_back({.token_begin = row * test.tokens,
                       .token_count = test.tokens,
                       .start = test.start,
                       .blocks = std::span(blocks_).subspan(row * blocks_each, blocks_each)});
      wanted_.push_back((row + 1) * test.tokens - 1);
    }
    logits_.resize(std::size_t{test.sequences} * model.vocabulary_size());
  }

  [[nodiscard]] uint32_t token_count() const { return token_count_; }
  [[nodiscard]] bool run() {
    const ForwardBatch batch{
        .tokens = tokens_, .positions = positions_, .rows = rows_, .logits_tokens = wanted_};
    return model_.forward(batch, {}, {}, logits_).ok();
  }

 private:
  Model& model_;
  uint32_t token_count_;
  std::vector<int32_t> blocks_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<ForwardRow> rows_;
  std::vector<uint32_t> wanted_;
  std::vector<float> logits_;
};

// Products of int8 codes are counted at twice the rate of bf16: as many instructions.
double limit_seconds(const ModelShape& shape, const Case& test, const Limits& limits,
                     uint64_t weight_bytes, bool is_integer) {
  const auto layers = static_cast<double>(shape.layer_weights());
  const auto head = static_cast<double>(shape.head_weights());
  const auto bytes = static_cast<double>(weight_bytes);
  const double layer_operations = 2 * layers * test.sequences * test.tokens;
  const double operations = layer_operations / (is_integer ? 2 : 1) + 2 * head * test.sequences;
  const double reading = bytes / limits.read_gigabytes / 1e9;
  return limits.gigaflops > 0 ? std::max(reading, operations / limits.gigaflops / 1e9) : reading;
}

struct Seconds {
  double total = 0;  // Of all steps.
  double wall = 1e9;
  double cpu = 1e9;  // Of a thread, on average.
};

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Of the round's shortest step, as the limits are those of its shortest runs: what else runs on the
// machine only ever adds time.
Seconds seconds_of(Step& step, uint32_t steps, uint32_t thread_count) {
  Seconds best;
  for (uint32_t i = 0; i < steps; ++i) {
    const Instant begin = now();
    const double cpu_begin = cpu_seconds();
    if (!step.run()) std::abort();
    best.cpu = std::min(best.cpu, (cpu_seconds() - cpu_begin) / thread_count);
    const double wall = std::chrono::duration<double>(now() - begin).count();
    best.total += wall;
    best.wall = std::min(best.wall, wall);
  }
  return best;
}

void measure_case(const ModelShape& shape, const Case& test, Model& model, ThreadPool& pool,
                  uint32_t rounds, bool is_integer) {
  Step step(model, test);
  if (!step.run()) std::abort();
  std::vector<double> rates;
  std::vector<double> typical_rates;
  std::vector<double> shares;
  std::vector<double> cpu_shares;
  std::vector<double> reads;
  std::vector<double> flops;
  Limits before = measure_limits(pool);
  for (uint32_t round = 0; round < rounds; ++round) {
    const Seconds seconds = seconds_of(step, test.steps, pool.thread_count());
    const Limits after = measure_limits(pool);
    const Limits mean{.read_gigabytes = (before.read_gigabytes + after.read_gigabytes) / 2,
                      .gigaflops = (before.gigaflops + after.gigaflops) / 2};
    const double limit = limit_seconds(shape, test, mean, model.weight_bytes(), is_integer);
    rates.push_back(step.token_count() / seconds.wall);
    typical_rates.push_back(step.token_count() * test.steps / seconds.total);
    shares.push_back(100 * limit / seconds.wall);
    cpu_shares.push_back(100 * limit / seconds.cpu);
    reads.push_back(mean.read_gigabytes);
    flops.push_back(mean.gigaflops);
    before = after;
  }
  std::printf(
      "%-7s %-15s %8.1f tok/s (typical %.1f) %5.1f %% of the limit, %5.1f %% by CPU time "
      "(read %.1f GB/s, %.0f GFLOP/s)\n",
      std::string(shape.name).c_str(), test.name, percentile(rates, 0.5),
      percentile(typical_rates, 0.5), percentile(shares, 0.5), percentile(cpu_shares, 0.5),
      percentile(reads, 0.5), percentile(flops, 0.5));
  std::fflush(stdout);
}

Status measure_model(const ModelShape& shape, const Options& options, ThreadPool& pool) {
  TRIREME_ASSIGN_OR_RETURN(const auto files, RandomModelDirectory::make(shape, pool));
  TRIREME_ASSIGN_OR_RETURN(const auto directory, worker::ModelDirectory::open(files->path()));
  worker::SoloCollective solo;
  const Instant begin = now();
  TRIREME_ASSIGN_OR_RETURN(const auto model,
                           worker::load_model(directory, worker::WorkerPlace{},
                                              {.kv_cache_dtype = options.kv_cache_dtype,
                                               .quantization = options.quantization,
                                               .cpu_kernels = options.cpu_kernels},
                                              solo, pool, {}));
  std::printf("%s: %.0f MB of weights loaded in %.2f s\n", std::string(shape.name).c_str(),
              static_cast<double>(model->weight_bytes()) / 1e6,
              std::chrono::duration<double>(now() - begin).count());
  TRIREME_RETURN_IF_ERROR(model->allocate_kv(8 * (2048 / 16 + 1)));
  for (const Case& test : kCases) {
    if (!options.test_case.empty() && options.test_case != test.name) continue;
    measure_case(shape, test, *model, pool, options.rounds, !options.quantization.empty());
  }
  return absl::OkStatus();
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const auto number = static_cast<uint32_t>(std::max(1, std::atoi(argv[i + 1])));
    if (flag == "--threads") options.threads = number;
    if (flag == "--rounds") options.rounds = number;
    if (flag == "--model") options.model = argv[i + 1];
    if (flag == "--quantization") options.quantization = argv[i + 1];
    if (flag == "--case") options.test_case = argv[i + 1];
    if (flag == "--cpu-kernels") options.cpu_kernels = argv[i + 1];
    if (flag == "--kv-cache-dtype") options.kv_cache_dtype = argv[i + 1];
  }
  return options;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  using namespace trireme::bench;
  const Options options = parse(argc, argv);
  std::vector<int> cpus(options.threads);
  std::iota(cpus.begin(), cpus.end(), 0);
  trireme::worker::ThreadPool pool(options.threads, cpus);
  for (const ModelShape& shape : {kQwen05, kTiny11}) {
    if (!options.model.empty() && options.model != shape.name) continue;
    const trireme::Status status = measure_model(shape, options, pool);
    if (status.ok()) continue;
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
