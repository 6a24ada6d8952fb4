// Sampler: one row of logits -> the next token, by SamplingParams' rules, in vLLM V1's order:
//
//   1. logprobs are those of the raw row
//   2. allowed_token_ids, bad_words (against the output), min_tokens (masks eos and stop tokens)
//   3. logit_bias
//   4. repetition penalty (prompt and output), then frequency and presence (output)
//   5. temperature below 1e-5: the largest value, lowest id among equals. Else temperature (at
//      least 0.01), min_p, top_k (values equal to the k-th stay in), top_p (the smallest set of
//      most likely tokens with at least that mass, lower ids first among equals)
//   6. the token where the running sum by rising id passes u times the whole
//
// u = uniform_at(seed, position) in (0, 1), position being the new token's index in the sequence
// (the prompt counts), is all the randomness there is: replay, another rank or a restart draws the
// same token from the same row.
//
// A row with NaN or +inf, or with nothing left to choose, gives wire::kBadLogits.
// Pure but for its scratch, which grows to the vocabulary once. Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "proto/step.h"
#include "worker/token_counts.h"
#include "worker/vocabulary_scan.h"

namespace trireme::worker {

// SplitMix64's stream of seed mix64(seed), jumped to `position`: 53 bits, never 0 or 1.
[[nodiscard]] double uniform_at(uint64_t seed, uint64_t position);

// Penalties need TokenCounts; without them a sequence keeps none.
[[nodiscard]] bool needs_token_counts(const wire::SamplingParams& params);

struct SamplingRow {
  std::span<float> logits;  // The whole vocabulary; overwritten.
  const wire::SamplingParams& params;
  std::span<const int32_t> tokens;  // Prompt and output so far.
  uint32_t prompt_count = 0;
  const TokenCounts* counts = nullptr;  // Required if needs_token_counts(params).
};

class Sampler {
 public:
  // `logprobs`, unless null, is filled if params.logprobs asks for it.
  [[nodiscard]] int32_t sample(const SamplingRow& row, wire::TokenLogprobs* logprobs);

  // What a row says of `token`: its logprob and rank, and the `top_count` most likely. False for a
  // row that sample() would refuse.
  [[nodiscard]] bool describe(std::span<const float> logits, int32_t token, int32_t top_count,
                              wire::TokenLogprobs& out);

 private:
  [[nodiscard]] int32_t draw(const SamplingRow& row, const Peak& peak);
  [[nodiscard]] int32_t draw_any(std::span<const float> logits, const Peak& peak, float scale,
                                 double u);
  void collect_top_p(std::span<const float> logits, const Peak& peak, float scale, float top_p);
  void cut_to_mass(double mass);
  [[nodiscard]] double select_bucket(double mass);
  void fill_logprobs(std::span<const float> raw, const Peak& peak, int32_t token, int32_t top_count,
                     wire::TokenLogprobs& out);

  std::vector<float> raw_;
  std::vector<float> weights_;
  std::vector<double> block_sums_;
  std::vector<double> bucket_sums_;
  std::vector<Candidate> candidates_;
  std::vector<Candidate> selection_;
};

}  // namespace trireme::worker
