// What the draft model of --speculative-config must be to go with the model it guesses for. Pure.
#pragma once

#include <cstdint>

#include "common/options/serve_options.h"
#include "common/status.h"
#include "worker/weights/model_config.h"

namespace trireme::worker {

// How many tokens of a sequence the draft model can compute. Another vocabulary, or a max_model_len
// beyond its positions, is kInvalidArgument with both names or numbers.
[[nodiscard]] StatusOr<uint32_t> check_draft_config(const ServeOptions& options,
                                                    const ModelConfig& model,
                                                    const ModelConfig& draft);

}  // namespace trireme::worker
