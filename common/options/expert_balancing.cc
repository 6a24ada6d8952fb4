#include "common/options/expert_balancing.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "common/options/flag_value.h"
#include "common/options/json_object.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

// How weights are moved, which they are not here; and a rebalancing is a line.
constexpr std::string_view kWithoutEffect[] = {"use_async", "communicator",
                                               "log_balancedness_interval"};

Status store_field(const std::string& name, const std::string& value,
                   ExpertBalancingOptions& balancing) {
  if (name == "window_size") return flag_value::read(value, balancing.window_size);
  if (name == "step_interval") return flag_value::read(value, balancing.step_interval);
  if (name == "num_redundant_experts") return flag_value::read(value, balancing.redundant_count);
  if (name == "moves_per_step") return flag_value::read(value, balancing.moves_per_step);
  if (name == "log_balancedness") return flag_value::read(value, balancing.logs);
  if (name == "policy") {
    if (value == "default") return absl::OkStatus();
    return error(kBad, "'%s' is not supported; there is default", value);
  }
  if (std::ranges::find(kWithoutEffect, name) != std::end(kWithoutEffect)) {
    balancing.has_fields_without_effect = true;
    return absl::OkStatus();
  }
  return error(kBad,
               "is not supported; there are window_size, step_interval, num_redundant_experts, "
               "moves_per_step and log_balancedness");
}

}  // namespace

Status read_expert_balancing(std::string_view json, ExpertBalancingOptions& balancing) {
  return read_json_object(json, [&](const std::string& name, const std::string& value) {
    return store_field(name, value, balancing);
  });
}

Status validate_expert_balancing(const ParallelOptions& parallel) {
  const ExpertBalancingOptions& balancing = parallel.expert_balancing;
  if (balancing.window_size == 0) {
    return error(kBad, "--eplb-config: window_size 0: must be at least 1");
  }
  if (balancing.step_interval == 0) {
    return error(kBad, "--eplb-config: step_interval 0: must be at least 1");
  }
  if (balancing.moves_per_step == 0) {
    return error(
        kBad,
        "--eplb-config: moves_per_step 0: must be at least 1, or no expert would ever come "
        "to a node that has to load it");
  }
  if (!balancing.is_on) {
    if (balancing.redundant_count == 0) return absl::OkStatus();
    return error(kBad, "--eplb-config: num_redundant_experts %u needs --enable-eplb",
                 balancing.redundant_count);
  }
  if (!parallel.expert_parallel) {
    return error(kBad,
                 "--enable-eplb needs --enable-expert-parallel: every rank has all experts "
                 "without it");
  }
  if (parallel.expert_rank_count() > 1) return absl::OkStatus();
  return error(kBad,
               "--enable-eplb: one rank has nobody to share experts with; it needs "
               "--data-parallel-size or --tensor-parallel-size above 1");
}

}  // namespace trireme
