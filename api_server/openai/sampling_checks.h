// What of a request's sampling can only be checked when its prompt and bad words are tokens.
//
// All refuse with kInvalidArgument naming the field. Pure.
#pragma once

#include <cstdint>

#include "common/status.h"
#include "proto/sampling_params.h"

namespace trireme::api {

// Some allowed token can be the first one: not each is a bad word, or masked by min_tokens because
// it would end the answer. `sampling` has its eos tokens.
[[nodiscard]] Status check_some_token_allowed(const wire::SamplingParams& sampling);

// min_tokens is not more than may come at all, `sampling.output_tokens_max`.
[[nodiscard]] Status check_output_fits(const wire::SamplingParams& sampling);

// The prompt's log-probabilities are at most kPromptLogprobsMax: with --max-logprobs -1 nothing
// else bounds what one step gives.
inline constexpr uint64_t kPromptLogprobsMax = 4 << 20;
[[nodiscard]] Status check_logprobs_bound(const wire::SamplingParams& sampling,
                                          uint64_t prompt_tokens);

}  // namespace trireme::api
