// What the mixtures of Qwen2-MoE and Qwen3-MoE share.
#pragma once

#include "worker/models/decoder_config.h"

namespace trireme::worker {

// Without a shared expert. Errors name the field.
[[nodiscard]] StatusOr<MixtureConfig> qwen_mixture(const ModelConfig& config);

}  // namespace trireme::worker
