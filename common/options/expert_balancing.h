// How experts are placed by their load: --enable-eplb and --eplb-config, as in vLLM.
#pragma once

#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

// vLLM's JSON object: window_size, step_interval, num_redundant_experts, log_balancedness; and
// moves_per_step, which vLLM has not. Fields that are not named keep their value. use_async,
// communicator and log_balancedness_interval are taken and have no effect; what is unknown or does
// not fit is kInvalidArgument with the field and its value.
[[nodiscard]] Status read_expert_balancing(std::string_view json,
                                           ExpertBalancingOptions& balancing);

// The rules between these fields and the other flags; the error names the flag.
[[nodiscard]] Status validate_expert_balancing(const ParallelOptions& parallel);

}  // namespace trireme
