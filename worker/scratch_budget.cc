#include "worker/scratch_budget.h"

#include <algorithm>

#include "worker/comm/expert_exchange.h"
#include "worker/forward_plan.h"

namespace trireme::worker {
namespace {

constexpr uint64_t kHiddenRows = 8;
constexpr uint64_t kLogitsCopies = 3;

uint64_t part(uint64_t count, uint32_t ranks) { return (count + ranks - 1) / ranks; }

// q, k, v and what was attended, and the widest rows that are packed of them.
struct AttentionColumns {
  uint64_t all;
  uint64_t widest;
};

AttentionColumns attention_columns(const ModelConfig& config, uint32_t ranks) {
  const uint64_t heads = part(config.head_count, ranks);
  if (const auto& latent = config.latent) {
    const uint64_t q = heads * (latent->plain_size + latent->rope_size);
    const uint64_t attended = heads * latent->value_size;
    const uint64_t down = latent->q_rank + latent->kv_rank + latent->rope_size;
    return {down + q + heads * latent->kv_rank + attended, std::max<uint64_t>(down, attended)};
  }
  const uint64_t q = heads * config.head_dim;
  return {2 * q + 2 * part(config.kv_head_count, ranks) * config.head_dim, q};
}

}  // namespace

uint64_t scratch_bytes(const ModelConfig& config, const WorkerPlace& place,
                       const SchedulerOptions& options, uint32_t logits_rows_max,
                       uint32_t wave_places) {
  const uint32_t ranks = place.tp_size;
  const uint64_t hidden = config.hidden_size;
  const AttentionColumns attention = attention_columns(config, ranks);
  // Each expert in turn takes the memory of the last one, so all tokens of one are the most.
  const uint64_t inner =
      std::max(part(std::max(config.intermediate_size, config.shared_expert_size), ranks),
               part(config.expert_intermediate_size, wave_places > 1 ? 1 : ranks));
  const uint64_t widest = std::max({hidden, attention.widest, inner});
  const uint64_t shared = config.shared_expert_size > 0 ? hidden : 0;
  const uint64_t per_token =
      kHiddenRows * hidden + attention.all + 3 * inner + 2 * widest + config.expert_count + shared;
  const uint64_t tokens = options.batched_tokens_max;
  const uint64_t guesses = options.speculation.tokens_max > 0 ? kDraftLogitsRows : 0;
  const uint64_t logits_rows = std::min(tokens, options.sequences_max + logits_rows_max + guesses);
  const bool is_last = place.pp_rank + 1 == place.pp_size;
  const uint64_t logits = is_last ? kLogitsCopies * logits_rows * config.vocabulary_size : 0;
  const uint64_t own = sizeof(float) * (tokens * per_token + logits);
  if (wave_places < 2) return own;
  const ExpertShape shape{.hidden_size = config.hidden_size,
                          .expert_count = config.expert_count,
                          .experts_per_token = config.experts_per_token};
  // One expert may have the rows of all, each with its input, its output and what lies between.
  const uint64_t rows =
      wave_places * std::min<uint64_t>(tokens, ExpertExchange::rows_per_round(shape, wave_places));
  const uint64_t more = rows > tokens ? rows - tokens : 0;
  return own + sizeof(float) * more * (2 * hidden + 3 * inner + 2 * widest) +
         ExpertExchange::buffer_bytes(shape, wave_places, options.batched_tokens_max);
}

}  // namespace trireme::worker
