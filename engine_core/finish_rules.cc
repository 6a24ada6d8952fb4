#include "engine_core/finish_rules.h"

#include <algorithm>

namespace trireme::engine {
namespace {

bool contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

Finish check_finish(const wire::SamplingParams& sampling, std::span<const int32_t> tokens,
                    uint32_t prompt_count, uint32_t model_tokens_max) {
  const auto output_count = static_cast<uint32_t>(tokens.size()) - prompt_count;
  if (output_count > 0 && output_count >= sampling.output_tokens_min) {
    const int32_t last = tokens.back();
    if (!sampling.ignore_eos && contains(sampling.eos_token_ids, last)) {
      return {wire::FinishReason::kStop, std::nullopt};
    }
    if (contains(sampling.stop_token_ids, last)) return {wire::FinishReason::kStop, last};
  }
  if (output_count >= sampling.output_tokens_max || tokens.size() >= model_tokens_max) {
    return {wire::FinishReason::kLength, std::nullopt};
  }
  return {};
}

}  // namespace trireme::engine
