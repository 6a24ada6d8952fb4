// --speculative-config: vLLM's JSON object, of which the method `ngram` is supported.
#pragma once

#include <string_view>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

// Fields that are not named keep their value. What is unknown or does not fit is kInvalidArgument
// with the field and its value; the caller names the flag.
[[nodiscard]] Status read_speculation(std::string_view json, SpeculationOptions& speculation);

// Whether the fields together say what to do; OK where there is no speculation. The error names the
// flag.
[[nodiscard]] Status validate_speculation(const SpeculationOptions& speculation);

}  // namespace trireme
