#include "common/options/serve_options.h"
#include "proto/member/member_link.h"

namespace trireme::member {
namespace {

std::string runner_name(Runner runner) {
  switch (runner) {
    case Runner::kAuto:
      return "auto";
    case Runner::kGenerate:
      return "generate";
    case Runner::kPooling:
      return "pooling";
  }
  return "unknown";
}

std::string balancing_text(const ExpertBalancingOptions& balancing) {
  if (!balancing.is_on) return "none";
  return absl::StrFormat(
      "window_size %u, step_interval %u, num_redundant_experts %u, moves_per_step %u",
      balancing.window_size, balancing.step_interval, balancing.redundant_count,
      balancing.moves_per_step);
}

}  // namespace

std::vector<wire::ConfigEntry> cluster_config(const ServeOptions& options) {
  const ModelOptions& model = options.model;
  const ParallelOptions& parallel = options.parallel;
  const SchedulerOptions& scheduler = options.scheduler;
  const uint32_t tokens_max = model.model_tokens_max;
  // Not here: paths (nodes may keep the model in different places), what only the front end uses,
  // and what `--cpu-kernels auto` became, which engines append. As the user would say it: a refusal
  // shows both values.
  std::vector<wire::ConfigEntry> config = {
      {"data-parallel-size", std::to_string(parallel.data_parallel_size)},
      {"tensor-parallel-size", std::to_string(parallel.tensor_parallel_size)},
      {"pipeline-parallel-size", std::to_string(parallel.pipeline_parallel_size)},
      {"dtype", model.dtype},
      {"quantization", model.quantization.empty() ? "none" : model.quantization},
      {"enable-expert-parallel", parallel.expert_parallel ? "true" : "false"},
      {"eplb-config", balancing_text(parallel.expert_balancing)},
      {"max-model-len", tokens_max == 0 ? "auto" : std::to_string(tokens_max)},
      {"block-size", std::to_string(scheduler.block_tokens)},
      {"kv-cache-dtype", options.worker.kv_cache_dtype},
      {"runner", runner_name(model.runner)},
  };
  if (!options.internal.model_fingerprint.empty()) {
    config.push_back({"model", options.internal.model_fingerprint});
  }
  return config;
}

}  // namespace trireme::member
