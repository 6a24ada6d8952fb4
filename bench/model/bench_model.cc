// bench_model: the forward pass as a share of what the machine can do.
//
//   bench_model [--threads N] [--rounds N] [--model qwen05|tl11] [--case NAME]
//               [--quantization int8|int4] [--kv-cache-dtype TYPE] [--json 1]
//               [--cpu-kernels amx|avx512|avx2|plain]
//               [--sequences N,… --context N,… --tokens N,… [--seconds S] [--kv-gigabytes G]]
//
// Random bf16 weights of the shapes of Qwen2.5-0.5B and TinyLlama 1.1B; decode steps of 1, 8 and 32
// sequences after 32 tokens, prompts of 128 and 512; or, where any of --sequences, --context and
// --tokens is given, all combinations of these: so many sequences that have so much context and get
// so many tokens. Prompts go in the chunks of a step of the engine. A combination whose KV is more
// than --kv-gigabytes is left out. A round measures the limits, a case, and the limits again. The
// limit of a case: its weights and KV read once, or its products at the fastest bf16 rate of the
// CPU, whichever takes longer (work.h, limits.h). Shown are medians of the rounds; a round's share
// is of the mean of its own two limits. On a busy machine the share by CPU time says more: it
// leaves out the time in which others had the cores. "typical" is the rate over all steps of a
// round, what a neighbour took included.
#include <time.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "bench/micro/figure.h"
#include "bench/model/limits.h"
#include "bench/model/random_model.h"
#include "bench/model/work.h"
#include "common/clock.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/models/load_model.h"

namespace trireme::bench {
namespace {

using worker::ForwardBatch;
using worker::ForwardRow;
using worker::Model;
using worker::ThreadPool;

constexpr Case kCases[] = {{"decode1", 1, 32, 1, 16},         {"decode2", 2, 32, 1, 8},
                           {"decode4", 4, 32, 1, 8},          {"decode8", 8, 32, 1, 8},
                           {"decode16", 16, 32, 1, 6},        {"decode32", 32, 32, 1, 5},
                           {"prefill128", 1, 0, 128, 2},      {"prefill512", 1, 0, 512, 1},
                           {"decode8_at2048", 8, 2047, 1, 4}, {"prefill2048", 1, 0, 2048, 1}};

constexpr uint32_t kChunkTokens = 2048;  // As --max-num-batched-tokens.
constexpr uint32_t kStepsMax = 64;

struct Options {
  uint32_t threads = 2;
  uint32_t rounds = 5;
  bool is_json = false;
  double seconds = 1;  // Of a combination's round.
  double kv_gigabytes = 8;
  std::vector<uint32_t> sequences;
  std::vector<uint32_t> contexts;
  std::vector<uint32_t> tokens;
  std::string model;
  std::string test_case;
  std::string kv_cache_dtype = "auto";
  std::string quantization;
  std::string cpu_kernels = "auto";
};

// The same step again and again: what it writes into the KV memory is what was there.
class Step {
 public:
  Step(Model& model, const Case& test)
      : model_(model), test_(test), token_count_(test.sequences * test.tokens) {
    blocks_each_ = (test.start + test.tokens) / model.kv_shape().block_tokens + 1;
    blocks_.resize(std::size_t{test.sequences} * blocks_each_);
    std::iota(blocks_.begin(), blocks_.end(), 0);
    fill_blocks();
    logits_.resize(std::size_t{test.sequences} * model.vocabulary_size());
  }

  [[nodiscard]] uint32_t token_count() const { return token_count_; }
  [[nodiscard]] bool run() {
    const uint32_t chunk = std::max(kChunkTokens / test_.sequences, 1U);
    for (uint32_t done = 0; done < test_.tokens; done += chunk) {
      if (!run_chunk(test_.start + done, std::min(chunk, test_.tokens - done))) return false;
    }
    return true;
  }

 private:
  // Memory that was never written would be read from one page that every cache holds.
  void fill_blocks() {
    std::vector<std::byte> block(model_.kv_shape().block_bytes);
    std::memset(block.data(), 0x3c, block.size());
    for (const int32_t index : blocks_) {
      model_.copy_block_in(static_cast<uint32_t>(index), block);
    }
  }
  bool run_chunk(uint32_t start, uint32_t count) {
    tokens_.clear();
    positions_.clear();
    rows_.clear();
    wanted_.clear();
    for (uint32_t row = 0; row < test_.sequences; ++row) {
      rows_.push_back({.token_begin = row * count,
                       .token_count = count,
                       .start = start,
                       .blocks = std::span(blocks_).subspan(row * blocks_each_, blocks_each_)});
      for (uint32_t i = 0; i < count; ++i) {
        tokens_.push_back(static_cast<int32_t>(tokens_.size() * 97 % model_.vocabulary_size()));
        positions_.push_back(static_cast<int32_t>(start + i));
      }
      if (start + count == test_.start + test_.tokens) wanted_.push_back((row + 1) * count - 1);
    }
    const ForwardBatch batch{
        .tokens = tokens_, .positions = positions_, .rows = rows_, .logits_tokens = wanted_};
    const std::size_t logits = wanted_.size() * model_.vocabulary_size();
    return model_.forward(batch, {}, {}, std::span(logits_).first(logits)).ok();
  }

  Model& model_;
  const Case test_;
  uint32_t token_count_;
  std::size_t blocks_each_ = 0;
  std::vector<int32_t> blocks_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<ForwardRow> rows_;
  std::vector<uint32_t> wanted_;
  std::vector<float> logits_;
};

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

// What the rounds of a case gave.
struct Found {
  std::vector<double> rates;
  std::vector<double> typical_rates;
  std::vector<double> limit_rates;
  std::vector<double> shares;
  std::vector<double> cpu_shares;
  std::vector<double> reads;
  std::vector<double> flops;
  const char* instruction = "";
};

Found measure_case(const Case& test, const Work& work, Model& model, ThreadPool& pool,
                   const Options& options) {
  Step step(model, test);
  const Instant begin = now();
  if (!step.run()) std::abort();
  const double first = std::chrono::duration<double>(now() - begin).count();
  const double fitting = std::clamp(options.seconds / first, 1.0, double{kStepsMax});
  const uint32_t steps = test.steps > 0 ? test.steps : static_cast<uint32_t>(fitting);
  Found found;
  Limits before = measure_limits(pool);
  for (uint32_t round = 0; round < options.rounds; ++round) {
    const Seconds seconds = seconds_of(step, steps, pool.thread_count());
    const Limits after = measure_limits(pool);
    const Limits mean{.read_gigabytes = (before.read_gigabytes + after.read_gigabytes) / 2,
                      .gigaflops = (before.gigaflops + after.gigaflops) / 2,
                      .instruction = after.instruction};
    const double limit = seconds_at(mean, work);
    found.rates.push_back(step.token_count() / seconds.wall);
    found.typical_rates.push_back(step.token_count() * steps / seconds.total);
    found.limit_rates.push_back(step.token_count() / limit);
    found.shares.push_back(100 * limit / seconds.wall);
    found.cpu_shares.push_back(100 * limit / seconds.cpu);
    found.reads.push_back(mean.read_gigabytes);
    found.flops.push_back(mean.gigaflops);
    found.instruction = mean.instruction;
    before = after;
  }
  return found;
}

void print_text(const ModelShape& shape, const Case& test, const Found& found) {
  std::printf(
      "%-7s %-15s %8.1f tok/s (typical %.1f) %5.1f %% of the limit, %5.1f %% by CPU time "
      "(read %.1f GB/s, %.0f GFLOP/s)\n",
      std::string(shape.name).c_str(), test.name, percentile(found.rates, 0.5),
      percentile(found.typical_rates, 0.5), percentile(found.shares, 0.5),
      percentile(found.cpu_shares, 0.5), percentile(found.reads, 0.5),
      percentile(found.flops, 0.5));
  std::fflush(stdout);
}

void print_json(const ModelShape& shape, const Case& test, const Work& work, const Found& found) {
  double load = 0;
  (void)getloadavg(&load, 1);
  std::printf(
      "{\"model\": \"%s\", \"case\": \"%s\", \"sequences\": %u, \"context\": %u, \"tokens\": %u, "
      "\"tok_s\": %.5g, \"typical_tok_s\": %.5g, \"limit_tok_s\": %.5g, \"share\": %.4g, "
      "\"cpu_share\": %.4g, \"read_gb_s\": %.4g, \"bf16_gflop_s\": %.5g, "
      "\"bf16_instruction\": \"%s\", \"weight_bytes\": %.0f, \"kv_bytes\": %.0f, "
      "\"operations\": %.6g, \"integer_operations\": %.6g, \"load_average\": %.1f}\n",
      std::string(shape.name).c_str(), test.name, test.sequences, test.start, test.tokens,
      percentile(found.rates, 0.5), percentile(found.typical_rates, 0.5),
      percentile(found.limit_rates, 0.5), percentile(found.shares, 0.5),
      percentile(found.cpu_shares, 0.5), percentile(found.reads, 0.5), percentile(found.flops, 0.5),
      found.instruction, work.weight_bytes, work.kv_bytes, work.operations, work.integer_operations,
      load);
  std::fflush(stdout);
}

// Those of the table, or the combinations that were asked for.
std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  if (options.sequences.empty() && options.contexts.empty() && options.tokens.empty()) {
    for (const Case& test : kCases) {
      if (options.test_case.empty() || options.test_case == test.name) cases.push_back(test);
    }
    return cases;
  }
  const auto or_else = [](const std::vector<uint32_t>& given, uint32_t usual) {
    return given.empty() ? std::vector<uint32_t>{usual} : given;
  };
  for (const uint32_t context : or_else(options.contexts, 0)) {
    for (const uint32_t sequences : or_else(options.sequences, 1)) {
      for (const uint32_t tokens : or_else(options.tokens, 1)) {
        cases.push_back({"asked", sequences, context, tokens, 0});
      }
    }
  }
  return cases;
}

uint32_t blocks_of(const Case& test, const worker::KvShape& kv) {
  return test.sequences * ((test.start + test.tokens) / kv.block_tokens + 1);
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
  if (!options.is_json) {
    std::printf("%s: %.0f MB of weights loaded in %.2f s\n", std::string(shape.name).c_str(),
                static_cast<double>(model->weight_bytes()) / 1e6,
                std::chrono::duration<double>(now() - begin).count());
  }
  const worker::KvShape kv = model->kv_shape();
  const auto has_room = [&](const Case& test) {
    const uint64_t bytes = blocks_of(test, kv) * kv.block_bytes;
    return static_cast<double>(bytes) <= options.kv_gigabytes * 1e9;
  };
  std::vector<Case> cases = cases_of(options);
  std::erase_if(cases, [&](const Case& test) { return !has_room(test); });
  uint32_t blocks_max = 1;
  for (const Case& test : cases) blocks_max = std::max(blocks_max, blocks_of(test, kv));
  TRIREME_RETURN_IF_ERROR(model->allocate_kv(blocks_max));
  for (const Case& test : cases) {
    const Work work = work_of(shape, test, model->weight_bytes(),
                              static_cast<double>(kv.block_bytes) / kv.block_tokens,
                              !options.quantization.empty());
    const Found found = measure_case(test, work, *model, pool, options);
    if (options.is_json) {
      print_json(shape, test, work, found);
    } else {
      print_text(shape, test, found);
    }
  }
  return absl::OkStatus();
}

constexpr char kUsage[] =
    "usage: bench_model [--threads N] [--rounds N] [--model qwen05|tl11] [--case NAME]\n"
    "                   [--quantization int8|int4] [--kv-cache-dtype auto|bfloat16|int8]\n"
    "                   [--json 0|1] [--cpu-kernels auto|amx|avx512|avx2|plain]\n"
    "                   [--sequences N,... --context N,... --tokens N,...\n"
    "                    [--seconds S] [--kv-gigabytes G]]\n";

// The whole word is a number of at least `least`.
bool read_count(const std::string& text, uint32_t least, uint32_t& out) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  return code == std::errc() && end == text.data() + text.size() && out >= least;
}

bool read_counts(const std::string& text, uint32_t least, std::vector<uint32_t>& out) {
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    if (!read_count(word, least, out.emplace_back())) return false;
  }
  return !out.empty();
}

bool read_amount(const std::string& text, double& out) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  return code == std::errc() && end == text.data() + text.size() && out > 0;
}

// A word that is one of `known`.
bool read_name(const std::string& text, std::initializer_list<std::string_view> known,
               std::string& out) {
  out = text;
  return std::ranges::find(known, text) != known.end();
}

bool is_case(const std::string& text) {
  return std::ranges::any_of(kCases, [&](const Case& test) { return text == test.name; });
}

// False: the value is none of this flag. Nothing: there is no such flag.
std::optional<bool> read_flag(const std::string& flag, const std::string& text, Options& options) {
  if (flag == "--threads") return read_count(text, 1, options.threads);
  if (flag == "--rounds") return read_count(text, 1, options.rounds);
  if (flag == "--seconds") return read_amount(text, options.seconds);
  if (flag == "--kv-gigabytes") return read_amount(text, options.kv_gigabytes);
  if (flag == "--sequences") return read_counts(text, 1, options.sequences);
  if (flag == "--context") return read_counts(text, 0, options.contexts);
  if (flag == "--tokens") return read_counts(text, 1, options.tokens);
  if (flag == "--model") return read_name(text, {kQwen05.name, kTiny11.name}, options.model);
  if (flag == "--quantization") return read_name(text, {"", "int8", "int4"}, options.quantization);
  if (flag == "--json") {
    options.is_json = text == "1";
    return text == "0" || text == "1";
  }
  if (flag == "--case") {
    options.test_case = text;
    return is_case(text);
  }
  if (flag == "--cpu-kernels") {
    return read_name(text, {"auto", "amx", "avx512", "avx2", "plain"}, options.cpu_kernels);
  }
  if (flag == "--kv-cache-dtype") {
    return read_name(text, {"auto", "bfloat16", "int8"}, options.kv_cache_dtype);
  }
  return std::nullopt;
}

StatusOr<Options> parse(const std::vector<std::string>& words) {
  Options options;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    const bool has_value = i + 1 < words.size();
    const std::optional<bool> read = read_flag(words[i], has_value ? words[i + 1] : "", options);
    if (!read) return error(StatusCode::kInvalidArgument, "unknown flag %s", words[i]);
    if (!has_value) return error(StatusCode::kInvalidArgument, "%s: no value", words[i]);
    if (*read) continue;
    return error(StatusCode::kInvalidArgument, "%s: '%s' is no value of it", words[i],
                 words[i + 1]);
  }
  return options;
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  using namespace trireme::bench;
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto is_help = [](const std::string& word) { return word == "--help" || word == "-h"; };
  if (std::ranges::any_of(words, is_help)) return std::fputs(kUsage, stdout), 0;
  const trireme::StatusOr<Options> read = parse(words);
  if (!read.ok()) {
    std::fprintf(stderr, "bench_model: %s\n%s", std::string(read.status().message()).c_str(),
                 kUsage);
    return 2;
  }
  const Options& options = *read;
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
