#include "common/options/serve_options.h"
#include "proto/member/member_link.h"

namespace trireme::member {

std::vector<wire::ConfigEntry> cluster_config(const ServeOptions& options) {
  const ModelOptions& model = options.model;
  const ParallelOptions& parallel = options.parallel;
  const SchedulerOptions& scheduler = options.scheduler;
  // Not here: paths (nodes may keep the model in different places) and what only the front end
  // uses.
  return {
      {"data-parallel-size", std::to_string(parallel.data_parallel_size)},
      {"tensor-parallel-size", std::to_string(parallel.tensor_parallel_size)},
      {"pipeline-parallel-size", std::to_string(parallel.pipeline_parallel_size)},
      {"dtype", model.dtype},
      {"max-model-len", std::to_string(model.model_tokens_max)},
      {"block-size", std::to_string(scheduler.block_tokens)},
      {"seed", std::to_string(model.seed.value_or(0))},
  };
}

}  // namespace trireme::member
