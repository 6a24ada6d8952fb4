#include "worker/logit_rules.h"

#include <algorithm>
#include <limits>

namespace trireme::worker {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

float* at(std::span<float> logits, int32_t token) {
  const auto index = static_cast<std::size_t>(token);
  return token >= 0 && index < logits.size() ? &logits[index] : nullptr;
}

void mask(std::span<float> logits, int32_t token) {
  if (float* logit = at(logits, token)) *logit = kMasked;
}

void keep_only(std::span<const int32_t> allowed, std::span<float> logits,
               std::vector<float>& scratch) {
  scratch.clear();
  for (const int32_t token : allowed) {
    const float* logit = at(logits, token);
    scratch.push_back(logit == nullptr ? kMasked : *logit);
  }
  std::fill(logits.begin(), logits.end(), kMasked);
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    if (float* logit = at(logits, allowed[i])) *logit = scratch[i];
  }
}

void mask_bad_words(std::span<const wire::TokenSequence> words, std::span<const int32_t> output,
                    std::span<float> logits) {
  for (const wire::TokenSequence& word : words) {
    if (word.token_ids.empty() || word.token_ids.size() > output.size() + 1) continue;
    const std::span prefix(word.token_ids.data(), word.token_ids.size() - 1);
    if (std::ranges::equal(prefix, output.last(prefix.size()))) {
      mask(logits, word.token_ids.back());
    }
  }
}

bool is_below_min(const RuleContext& context) {
  return context.output.size() < context.params.output_tokens_min;
}

void apply_penalties(const wire::SamplingParams& params, const TokenCounts& counts,
                     std::span<float> logits) {
  for (const TokenCounts::Entry& entry : counts.entries()) {
    float* logit = at(logits, entry.token);
    if (logit == nullptr) continue;
    *logit = *logit > 0 ? *logit / params.repetition_penalty : *logit * params.repetition_penalty;
    if (entry.output_count == 0) continue;
    *logit -= params.frequency_penalty * static_cast<float>(entry.output_count);
    *logit -= params.presence_penalty;
  }
}

}  // namespace

bool has_rules(const RuleContext& context) {
  const wire::SamplingParams& params = context.params;
  return !params.allowed_token_ids.empty() || !params.bad_words.empty() ||
         !params.logit_bias.empty() || context.counts != nullptr || is_below_min(context);
}

void apply_rules(const RuleContext& context, std::span<float> logits, std::vector<float>& scratch) {
  const wire::SamplingParams& params = context.params;
  if (!params.allowed_token_ids.empty()) keep_only(params.allowed_token_ids, logits, scratch);
  mask_bad_words(params.bad_words, context.output, logits);
  if (is_below_min(context)) {
    for (const int32_t token : params.eos_token_ids) mask(logits, token);
    for (const int32_t token : params.stop_token_ids) mask(logits, token);
  }
  for (const wire::LogitBias& bias : params.logit_bias) {
    if (float* logit = at(logits, bias.token_id)) *logit += bias.bias;
  }
  if (context.counts != nullptr) apply_penalties(params, *context.counts, logits);
}

}  // namespace trireme::worker
