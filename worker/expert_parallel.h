// Expert parallelism: whether the experts of a mixture are divided over the workers of all
// data-parallel and tensor-parallel ranks, which place among them a worker has, and which experts
// it has in memory from the start. Pure.
#pragma once

#include "common/options/serve_options.h"
#include "common/status.h"
#include "proto/member/cluster_shape.h"
#include "worker/comm/expert_placement.h"
#include "worker/weights/model_config.h"

namespace trireme::worker {

// Places of a stage, of all ranks: the members that a wave may have.
[[nodiscard]] inline uint32_t places_of_wave(const ServeOptions& options) {
  return options.parallel.data_parallel_size * options.parallel.tensor_parallel_size;
}

[[nodiscard]] inline bool divides_experts(const ServeOptions& options, const ModelConfig& config) {
  return options.parallel.expert_parallel && config.expert_count > 0 && places_of_wave(options) > 1;
}

[[nodiscard]] inline uint32_t place_in_wave(const ServeOptions& options, uint32_t tp_rank) {
  return options.internal.engine_rank * options.parallel.tensor_parallel_size + tp_rank;
}

// All experts where they are not divided.
[[nodiscard]] inline ExpertHome expert_home(const ServeOptions& options, const ModelConfig& config,
                                            uint32_t tp_rank) {
  if (!divides_experts(options, config)) return {};
  const member::RankRange local = member::local_ranks(options);
  return {.place_count = places_of_wave(options),
          .tp_size = options.parallel.tensor_parallel_size,
          .tp_rank = tp_rank,
          .first_rank = local.first,
          .rank_count = local.count};
}

// An expert is at a place once.
[[nodiscard]] inline Status check_redundant_experts(const ServeOptions& options,
                                                    const ModelConfig& config) {
  const uint32_t wanted = options.parallel.expert_balancing.redundant_count;
  if (wanted == 0 || !divides_experts(options, config)) return absl::OkStatus();
  const uint64_t max = uint64_t{config.expert_count} * (places_of_wave(options) - 1);
  if (wanted <= max) return absl::OkStatus();
  return error(StatusCode::kInvalidArgument,
               "--eplb-config: num_redundant_experts %u is more than %u: with so many each of the "
               "model's %u experts is at all %u ranks",
               wanted, max, config.expert_count, places_of_wave(options));
}

}  // namespace trireme::worker
