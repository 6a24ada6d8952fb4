#include "worker/scratch_budget.h"

#include <algorithm>

#include "worker/forward_plan.h"

namespace trireme::worker {
namespace {

constexpr uint64_t kHiddenRows = 8;
constexpr uint64_t kLogitsCopies = 3;

uint64_t part(uint64_t count, uint32_t ranks) { return (count + ranks - 1) / ranks; }

}  // namespace

uint64_t scratch_bytes(const ModelConfig& config, const WorkerPlace& place,
                       const SchedulerOptions& options, uint32_t logits_rows_max) {
  const uint32_t ranks = place.tp_size;
  const uint64_t hidden = config.hidden_size;
  const uint64_t q = part(config.head_count, ranks) * config.head_dim;
  const uint64_t kv = part(config.kv_head_count, ranks) * config.head_dim;
  // Each expert in turn takes the memory of the last one, so all tokens of one are the most.
  const uint64_t inner =
      part(std::max(config.intermediate_size, config.expert_intermediate_size), ranks);
  const uint64_t widest = std::max({hidden, q, inner});
  const uint64_t per_token =
      kHiddenRows * hidden + 2 * q + 2 * kv + 3 * inner + 2 * widest + config.expert_count;
  const uint64_t tokens = options.batched_tokens_max;
  const uint64_t guesses = options.speculation.tokens_max > 0 ? kDraftLogitsRows : 0;
  const uint64_t logits_rows = std::min(tokens, options.sequences_max + logits_rows_max + guesses);
  const bool is_last = place.pp_rank + 1 == place.pp_size;
  const uint64_t logits = is_last ? kLogitsCopies * logits_rows * config.vocabulary_size : 0;
  return sizeof(float) * (tokens * per_token + logits);
}

}  // namespace trireme::worker
