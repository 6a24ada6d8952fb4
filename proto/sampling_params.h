// SamplingParams: how a request's tokens are chosen and when it ends, or what of its prompt is
// wanted instead. Defaults are vLLM's. A field of AddRequest and of StepInput's new sequences.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "common/id.h"

namespace trireme::wire {

struct LogitBias {
  int32_t token_id = 0;
  float bias = 0;  // In [-100, 100].

  static auto fields(auto& m) { return std::tie(m.token_id, m.bias); }
  friend bool operator==(const LogitBias&, const LogitBias&) = default;
};

// A token sequence as a list of lists goes on the wire as one struct each.
struct TokenSequence {
  std::vector<int32_t> token_ids;

  static auto fields(auto& m) { return std::tie(m.token_ids); }
  friend bool operator==(const TokenSequence&, const TokenSequence&) = default;
};

inline constexpr int32_t kLogprobsNone = -1;

// Which of the prompt's last hidden states become its one vector.
enum class Pooling : uint8_t {
  kNone = 0,
  kCls = 1,   // The first token's.
  kMean = 2,  // All of them, averaged.
  kLast = 3,  // The last token's.
};

struct SamplingParams {
  float temperature = 1;  // [0, 2]; 0 is greedy.
  float top_p = 1;        // (0, 1]
  int32_t top_k = 0;      // 0: all.
  float min_p = 0;        // [0, 1]
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  uint64_t seed = 0;  // Always set: the front end draws one when the client gave none.
  uint32_t output_tokens_max = 16;
  uint32_t output_tokens_min = 0;
  bool ignore_eos = false;
  std::vector<int32_t> eos_token_ids;   // The model's; end with finish reason stop.
  std::vector<int32_t> stop_token_ids;  // The client's; end with stop and the id as the reason.
  int32_t logprobs = kLogprobsNone;     // 0: the chosen token's only; k: also the k most likely.
  int32_t prompt_logprobs = kLogprobsNone;
  std::vector<LogitBias> logit_bias;
  std::vector<int32_t> allowed_token_ids;  // Empty: all.
  std::vector<TokenSequence> bad_words;
  // Not kNone: the request ends with its prompt and gives a vector; output_tokens_max is 0. Since
  // version 2 of AddRequest and 3 of StepInput.
  Pooling pooling = Pooling::kNone;

  static auto fields(auto& m) {
    return std::tie(m.temperature, m.top_p, m.top_k, m.min_p, m.presence_penalty,
                    m.frequency_penalty, m.repetition_penalty, m.seed, m.output_tokens_max,
                    m.output_tokens_min, m.ignore_eos, m.eos_token_ids, m.stop_token_ids,
                    m.logprobs, m.prompt_logprobs, m.logit_bias, m.allowed_token_ids, m.bad_words,
                    m.pooling);
  }
  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

}  // namespace trireme::wire
