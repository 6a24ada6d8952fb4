// trireme bench throughput: all prompts at once; requests and tokens per second.
#include <algorithm>
#include <cstdio>
#include <string>

#include "cli/bench/bench_command.h"
#include "cli/bench/engine_bench.h"
#include "common/json_text.h"
#include "common/options/serve_flags.h"

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr uint32_t kRequestsMax = 1u << 24;

struct ThroughputOptions {
  PlanOptions plan{.num_prompts = 1000, .input_len = 1024, .output_len = 128};
  uint32_t n = 1;
  std::string dataset_name = "random";
  std::string backend = "vllm";
  std::string output_json;
  uint32_t num_warmups = 0;
  bool prequeue_requests = false;
  bool async_engine = false;

  [[nodiscard]] bool is_chat() const { return backend == "vllm-chat"; }
};

// clang-format off
std::vector<Flag> throughput_flags(ThroughputOptions& o) {
  return {
      flag("num-prompts", "N", "requests; default 1000", o.plan.num_prompts),
      flag("input-len", "N", "tokens of a prompt; default 1024", o.plan.input_len),
      flag("output-len", "N", "tokens of an answer; default 128", o.plan.output_len),
      flag("n", "N", "answers to each prompt; default 1", o.n),
      flag("dataset-name", "NAME", "random: lists of random token ids", o.dataset_name),
      flag("random-input-len", "N", "the same as --input-len", o.plan.input_len),
      flag("random-output-len", "N", "the same as --output-len", o.plan.output_len),
      flag("random-range-ratio", "R", "lengths are uniform in [len * (1 - R), len * (1 + R)]; default 0", o.plan.range_ratio),
      flag("random-prefix-len", "N", "tokens before each prompt, the same in all; default 0", o.plan.prefix_len),
      flag("prefix-len", "N", "the same as --random-prefix-len", o.plan.prefix_len),
      flag("num-warmups", "N", "requests before the measured ones; default 0", o.num_warmups),
      flag("prequeue-requests", "", "begin when the server has all of each request but its last byte", o.prequeue_requests),
      flag("output-json", "FILE", "write model_id, elapsed_time, num_requests, total_num_tokens, requests_per_second, tokens_per_second", o.output_json),
      flag("backend", "NAME", "vllm: lists of token ids; vllm-chat: chats of common words; default vllm", o.backend),
      flag("async-engine", "", "no effect: the engine is always a process of its own", o.async_engine),
      idle_flag("disable-detokenize", "", "no effect: answers are always text"),
      refused_flag("profile", "", "use perf on the worker's process"),
      refused_flag("dataset-path", "FILE", "there are no data sets; prompts are random, of --random-input-len"),
      refused_flag("hf-max-batch-size", "N", "there is no backend hf; --max-num-seqs bounds a batch"),
      refused_flag("lora-path", "DIR", "there are no adapters; measure a model with the adapter merged into it"),
  };
}
// clang-format on

Status check(const ThroughputOptions& options) {
  const PlanOptions& plan = options.plan;
  if (options.dataset_name != "random") {
    return error(kBad, "--dataset-name: '%s' is not there; random is", options.dataset_name);
  }
  if (options.backend != "vllm" && !options.is_chat()) {
    return error(kBad, "--backend: '%s' is not there; vllm and vllm-chat stand for this engine",
                 options.backend);
  }
  if (plan.num_prompts == 0) return error(kBad, "--num-prompts: 0 is nothing to send");
  if (plan.input_len == 0) return error(kBad, "--input-len: 0; at least 1");
  if (plan.output_len == 0) return error(kBad, "--output-len: 0; at least 1");
  if (options.n == 0) return error(kBad, "--n: 0; at least 1");
  if (!(plan.range_ratio >= 0 && plan.range_ratio < 1)) {
    return error(kBad, "--random-range-ratio: %g is not in [0, 1)", plan.range_ratio);
  }
  if (plan.num_prompts > kRequestsMax) {
    return error(kBad, "--num-prompts: %d is above %d", plan.num_prompts, kRequestsMax);
  }
  if (options.num_warmups > kRequestsMax) {
    return error(kBad, "--num-warmups: %d is above %d", options.num_warmups, kRequestsMax);
  }
  return check_output(options.output_json);
}

Status show(const std::string& model, const ThroughputOptions& options,
            const LoadOutcome& outcome) {
  uint64_t requests = 0;
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  for (const Sample& sample : outcome.samples) {
    if (sample.state != SampleState::kCompleted) continue;
    ++requests;
    prompt_tokens += sample.prompt_tokens;
    output_tokens += sample.output_tokens;
  }
  const double elapsed = std::chrono::duration<double>(outcome.duration).count();
  const auto rate = [elapsed](uint64_t count) { return static_cast<double>(count) / elapsed; };
  const uint64_t tokens = prompt_tokens + output_tokens;
  if (outcome.was_interrupted) {
    std::fprintf(stderr, "interrupted: %lu of %u requests were answered\n", requests,
                 options.plan.num_prompts);
  }
  std::printf("Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n",
              rate(requests), rate(tokens), rate(output_tokens));
  std::printf("Total num prompt tokens:  %lu\nTotal num output tokens:  %lu\n", prompt_tokens,
              output_tokens);
  std::fflush(stdout);
  std::string model_id;
  append_json_string(model_id, model);
  return write_output(
      options.output_json,
      absl::StrFormat(
          R"({"model_id": %s, "elapsed_time": %.9g, "num_requests": %d, "total_num_tokens": %d, )"
          R"("requests_per_second": %.9g, "tokens_per_second": %.9g})",
          model_id, elapsed, requests, tokens, rate(requests), rate(tokens)));
}

StatusOr<bool> measure(const EngineCommand& command, const ThroughputOptions& options,
                       StopSignal& stop) {
  if (options.async_engine) {
    std::fprintf(stderr, "note: --async-engine: the engine is always a process of its own\n");
  }
  const uint32_t measured = options.plan.num_prompts;
  EngineLoad load{.plan = options.plan, .choices = options.n, .is_chat = options.is_chat()};
  load.plan.seed = command.serve.model.seed.value_or(0);
  load.plan.num_prompts += options.num_warmups;  // Other prompts, so that none finds its own.
  load.requests_max = uint64_t{std::max(measured, options.num_warmups)} * options.n;
  TRIREME_ASSIGN_OR_RETURN(EngineBench bench, EngineBench::start(command, load, stop));
  if (options.num_warmups > 0) {
    TRIREME_RETURN_IF_ERROR(
        bench.run({.what = "warming up", .begin = measured, .batch_count = options.num_warmups})
            .status());
  }
  if (stop.level() != StopSignal::Level::kRun) {
    return error(StatusCode::kCancelled, "interrupted while warming up");
  }
  TRIREME_ASSIGN_OR_RETURN(
      const LoadOutcome outcome,
      bench.run({.batch_count = measured, .is_prequeued = options.prequeue_requests}));
  TRIREME_RETURN_IF_ERROR(show(command.serve.model.model, options, outcome));
  TRIREME_RETURN_IF_ERROR(bench.stop_server());
  return outcome.was_interrupted;
}

}  // namespace

int run_throughput(Arguments arguments) {
  ThroughputOptions options;
  const std::vector<Flag> flags = throughput_flags(options);
  const Words given(arguments.data(), arguments.size());
  if (wants_help(given)) {
    std::printf(
        "usage: trireme bench throughput MODEL [flags] [flags of trireme serve]\n\n"
        "Starts MODEL on a free port, sends all requests at once and prints what was done per "
        "second.\n\n%s",
        flags_help(flags).c_str());
    return 0;
  }
  const auto command = parse_engine_command(flags, given);
  const Status status = command.ok() ? check(options) : command.status();
  return run_measurement("throughput", status,
                         [&](StopSignal& stop) { return measure(*command, options, stop); });
}

}  // namespace trireme::bench
