// trireme bench latency: the time of one batch, from its request to the last token of the last
// sequence.
#include <array>
#include <cstdio>
#include <string>

#include "cli/bench/bench_command.h"
#include "cli/bench/engine_bench.h"
#include "cli/bench/serve_report.h"
#include "common/json_text.h"
#include "common/options/serve_flags.h"

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr std::array<double, 6> kPercents = {10, 25, 50, 75, 90, 99};

struct LatencyOptions {
  uint32_t input_len = 32;
  uint32_t output_len = 128;
  uint32_t batch_size = 8;
  uint32_t n = 1;
  uint32_t num_iters_warmup = 10;
  uint32_t num_iters = 30;
  std::string output_json;

  [[nodiscard]] uint64_t sequences() const { return uint64_t{batch_size} * n; }
};

// clang-format off
std::vector<Flag> latency_flags(LatencyOptions& o) {
  return {
      flag("input-len", "N", "tokens of each prompt; default 32", o.input_len),
      flag("output-len", "N", "tokens of each answer; default 128", o.output_len),
      flag("batch-size", "N", "prompts in a batch; default 8", o.batch_size),
      flag("n", "N", "answers to each prompt; default 1", o.n),
      flag("num-iters-warmup", "N", "batches before the measured ones; default 10", o.num_iters_warmup),
      flag("num-iters", "N", "measured batches; default 30", o.num_iters),
      flag("output-json", "FILE", "write model_id, avg_latency, std_latency, latencies, percentiles (seconds)", o.output_json),
      idle_flag("disable-detokenize", "", "no effect: answers are always text"),
      refused_flag("use-beam-search", "", "there is no beam search"),
      refused_flag("profile", "", "use perf on the worker's process"),
  };
}
// clang-format on

Status check(const LatencyOptions& options) {
  constexpr uint32_t kBatchMax = 1024;
  constexpr uint32_t kChoicesMax = 128;
  const auto check_range = [](const char* name, uint32_t value, uint32_t max) {
    if (value >= 1 && value <= max) return absl::OkStatus();
    return error(kBad, "--%s: %d is not from 1 to %d", name, value, max);
  };
  TRIREME_RETURN_IF_ERROR(check_range("input-len", options.input_len, 1u << 24));
  TRIREME_RETURN_IF_ERROR(check_range("output-len", options.output_len, 1u << 24));
  TRIREME_RETURN_IF_ERROR(check_range("batch-size", options.batch_size, kBatchMax));
  TRIREME_RETURN_IF_ERROR(check_range("n", options.n, kChoicesMax));
  TRIREME_RETURN_IF_ERROR(check_range("num-iters", options.num_iters, 1u << 20));
  return check_output(options.output_json);
}

std::string number(double value) { return absl::StrFormat("%.9g", value); }

std::string json_text(const std::string& model, const std::vector<double>& latencies,
                      const Distribution& found) {
  std::string out = "{\"model_id\": ";
  append_json_string(out, model);
  out += absl::StrFormat(", \"avg_latency\": %s, \"std_latency\": %s, \"latencies\": [",
                         number(found.mean), number(found.std));
  for (std::size_t i = 0; i < latencies.size(); ++i) {
    out += (i > 0 ? ", " : "") + number(latencies[i]);
  }
  out += "], \"percentiles\": {";
  for (std::size_t i = 0; i < kPercents.size(); ++i) {
    out += absl::StrFormat("%s\"%g\": %s", i > 0 ? ", " : "", kPercents[i],
                           number(found.percentiles[i]));
  }
  return out + "}}";
}

Status show(const std::string& model, const LatencyOptions& options, const LoadOutcome& outcome) {
  std::vector<double> latencies;
  for (const Sample& sample : outcome.samples) {
    if (sample.state != SampleState::kCompleted) continue;
    const uint64_t expected = options.sequences() * options.output_len;
    if (sample.output_tokens != expected) {
      return error(StatusCode::kAborted, "a batch gave %d tokens, not %d", sample.output_tokens,
                   expected);
    }
    latencies.push_back(std::chrono::duration<double>(sample.latency).count());
  }
  if (latencies.empty()) return error(StatusCode::kCancelled, "interrupted before the first batch");
  const Distribution found = distribution(latencies, kPercents);
  std::printf("Avg latency: %s seconds\n", number(found.mean).c_str());
  std::printf("Std latency: %s seconds\n", number(found.std).c_str());
  for (std::size_t i = 0; i < kPercents.size(); ++i) {
    std::printf("%g%% percentile latency: %s seconds\n", kPercents[i],
                number(found.percentiles[i]).c_str());
  }
  std::printf("Output tokens per second: %.2f (%lu batches of %lu x %u tokens)\n",
              static_cast<double>(options.sequences() * options.output_len) / found.mean,
              latencies.size(), options.sequences(), options.output_len);
  std::fflush(stdout);
  return write_output(options.output_json, json_text(model, latencies, found));
}

StatusOr<bool> measure(const EngineCommand& command, const LatencyOptions& options,
                       StopSignal& stop) {
  const std::size_t warmups = std::size_t{options.num_iters_warmup} * options.batch_size;
  const PlanOptions plan{.num_prompts = static_cast<uint32_t>(
                             warmups + std::size_t{options.num_iters} * options.batch_size),
                         .input_len = options.input_len,
                         .output_len = options.output_len,
                         .seed = command.serve.model.seed.value_or(0)};
  TRIREME_ASSIGN_OR_RETURN(
      EngineBench bench,
      EngineBench::start(command,
                         {.plan = plan, .choices = options.n, .requests_max = options.sequences()},
                         stop));
  EngineRun run{.what = "warming up: batch",
                .batch_size = options.batch_size,
                .batch_count = options.num_iters_warmup,
                .max_concurrency = 1};
  if (options.num_iters_warmup > 0) TRIREME_RETURN_IF_ERROR(bench.run(run).status());
  if (stop.level() != StopSignal::Level::kRun) {
    return error(StatusCode::kCancelled, "interrupted while warming up");
  }
  run.what = "batch";
  run.begin = warmups;
  run.batch_count = options.num_iters;
  TRIREME_ASSIGN_OR_RETURN(const LoadOutcome outcome, bench.run(run));
  TRIREME_RETURN_IF_ERROR(show(command.serve.model.model, options, outcome));
  TRIREME_RETURN_IF_ERROR(bench.stop_server());
  return outcome.was_interrupted;
}

}  // namespace

int run_latency(Arguments arguments) {
  LatencyOptions options;
  const std::vector<Flag> flags = latency_flags(options);
  const Words given(arguments.data(), arguments.size());
  if (wants_help(given)) {
    std::printf(
        "usage: trireme bench latency MODEL [flags] [flags of trireme serve]\n\n"
        "Starts MODEL on a free port, sends one batch after another and prints how long each "
        "took.\n"
        "Prompts are random token ids; prefix caching is off unless --enable-prefix-caching is "
        "given.\n\n%s",
        flags_help(flags).c_str());
    return 0;
  }
  // Before the user's, which win.
  std::vector<const char*> words = {"--no-enable-prefix-caching"};
  words.insert(words.end(), given.begin(), given.end());
  const auto command = parse_engine_command(flags, words);
  const Status status = command.ok() ? check(options) : command.status();
  return run_measurement("latency", status,
                         [&](StopSignal& stop) { return measure(*command, options, stop); });
}

}  // namespace trireme::bench
