#include "api_server/openai/sampling_checks.h"

#include <algorithm>

#include "api_server/field_error.h"

namespace trireme::api {
namespace {

bool is_among(int32_t token, const std::vector<int32_t>& tokens) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

bool may_come_first(int32_t token, const wire::SamplingParams& sampling) {
  if (sampling.output_tokens_min > 0 &&
      (is_among(token, sampling.eos_token_ids) || is_among(token, sampling.stop_token_ids))) {
    return false;
  }
  return std::none_of(sampling.bad_words.begin(), sampling.bad_words.end(),
                      [&](const wire::TokenSequence& word) {
                        return word.token_ids.size() == 1 && word.token_ids.front() == token;
                      });
}

}  // namespace

Status check_some_token_allowed(const wire::SamplingParams& sampling) {
  const auto& allowed = sampling.allowed_token_ids;
  if (allowed.empty()) return {};
  const bool is_any = std::any_of(allowed.begin(), allowed.end(),
                                  [&](int32_t token) { return may_come_first(token, sampling); });
  if (is_any) return {};
  return field_error("allowed_token_ids",
                     "leaves no token to begin with: each is among bad_words, or ends the answer "
                     "before min_tokens");
}

Status check_output_fits(const wire::SamplingParams& sampling) {
  if (sampling.output_tokens_min <= sampling.output_tokens_max) return {};
  return field_error("min_tokens",
                     absl::StrFormat("is %u, more than the %u tokens that may come",
                                     sampling.output_tokens_min, sampling.output_tokens_max));
}

Status check_logprobs_bound(const wire::SamplingParams& sampling, uint64_t prompt_tokens) {
  if (sampling.prompt_logprobs <= 0) return {};
  const uint64_t wanted = prompt_tokens * static_cast<uint64_t>(sampling.prompt_logprobs);
  if (wanted <= kPromptLogprobsMax) return {};
  return field_error(
      "prompt_logprobs",
      absl::StrFormat("%d for each of %u prompt tokens are %u values, at most %u are possible",
                      sampling.prompt_logprobs, prompt_tokens, wanted, kPromptLogprobsMax));
}

}  // namespace trireme::api
