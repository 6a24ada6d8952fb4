// --speculative-config: vLLM's JSON object, of which the methods `ngram` and `draft_model` are
// supported.
#pragma once

#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

// Fields that are not named keep their value. What is unknown or does not fit is kInvalidArgument
// with the field and its value; the caller names the flag.
[[nodiscard]] Status read_speculation(std::string_view json, SpeculationOptions& speculation);

// Its field `model`, which says the method too where nothing else does.
[[nodiscard]] Status read_draft_model(std::string_view text, SpeculationOptions& speculation);

// Whether the fields together say what to do; OK where there is no speculation. The error names the
// flag.
[[nodiscard]] Status validate_speculation(const SpeculationOptions& speculation,
                                          uint32_t tensor_parallel_size);

}  // namespace trireme
