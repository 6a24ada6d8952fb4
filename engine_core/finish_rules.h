// When a request ends. Pure. (Stop strings are the front end's: they need text.)
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "proto/engine_outputs.h"
#include "proto/sampling_params.h"

namespace trireme::engine {

struct Finish {
  wire::FinishReason reason = wire::FinishReason::kNone;
  std::optional<int32_t> stop_token_id;  // The client's stop token that ended it.
  friend bool operator==(const Finish&, const Finish&) = default;
};

// After the last token of `tokens` (prompt, then output) was sampled. The model's own end wins over
// the client's stop token, both over the length; before output_tokens_min only the length ends it.
[[nodiscard]] Finish check_finish(const wire::SamplingParams& sampling,
                                  std::span<const int32_t> tokens, uint32_t prompt_count,
                                  uint32_t model_tokens_max);

}  // namespace trireme::engine
