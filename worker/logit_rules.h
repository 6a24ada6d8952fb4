// The rules that change a row of logits before a token is chosen (steps 2 to 4 of sampler.h).
#pragma once

#include <span>
#include <vector>

#include "proto/sampling_params.h"
#include "worker/token_counts.h"

namespace trireme::worker {

struct RuleContext {
  const wire::SamplingParams& params;
  std::span<const int32_t> output;      // Output so far.
  const TokenCounts* counts = nullptr;  // Null: no penalties.
};

[[nodiscard]] bool has_rules(const RuleContext& context);
// Token ids outside of the row are ignored. `scratch` is for the call's own use.
void apply_rules(const RuleContext& context, std::span<float> logits, std::vector<float>& scratch);

}  // namespace trireme::worker
