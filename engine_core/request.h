// Request: one request as the scheduler keeps it, from its arrival to its last token.
//
//   waiting ── admitted ─▶ running ── finished, aborted, failed ─▶ gone
//      ▲                      │
//      └────── preempted ─────┘   its blocks are given up; its tokens are computed again
//
// Token counts, always computed <= tokens.size() + pending:
//   tokens     prompt and output known to the engine
//   pending    tokens that steps in flight will sample: they exist on the worker, not here yet
//   computed   tokens whose KV is computed by the steps made so far, those in flight included;
//              of a row's drafts those only that its result accepted
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/id.h"
#include "engine_core/guess_count.h"
#include "engine_core/kv_cache.h"
#include "engine_core/ngram_index.h"
#include "engine_core/step_outputs.h"
#include "proto/sampling_params.h"

namespace trireme::engine {

inline uint32_t microseconds32(Duration duration) {
  const int64_t count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(count, 0, UINT32_MAX));
}

struct Request {
  uint64_t serial = 0;  // In order of arrival, never reused; 0: this object is not in use.
  FrontEndId front_end;
  RequestKey key;
  wire::SamplingParams sampling;
  std::string cache_salt;
  int64_t place = 0;     // In the queue: smaller first, then by serial.
  bool is_long = false;  // Too much to compute for several of its kind to be part-way at once.
  Instant arrived_at{};
  Instant admitted_at{};  // For the first time.

  std::vector<int32_t> tokens;
  uint32_t prompt_count = 0;
  uint32_t pending = 0;
  uint32_t computed = 0;
  SequenceBlocks blocks;
  NgramIndex ngrams;   // Of `tokens`, with prompt lookup.
  GuessCount guesses;  // With speculative decoding.

  bool is_running = false;
  SlotId slot;               // While running.
  uint32_t restarts = 0;     // Rows of before the last one count for nothing.
  uint32_t blocks_sent = 0;  // Of the table: the workers have them.
  uint32_t tokens_sent = 0;  // Of `tokens`: every pipeline stage has them.

  bool was_admitted = false;
  bool had_output = false;
  uint32_t cached_prompt_tokens = 0;
  uint32_t queue_microseconds = 0;
  uint32_t preemptions = 0;
  uint32_t prompt_logprobs_sent = 0;  // Positions from the prompt's second token on.

  [[nodiscard]] uint32_t known_count() const { return static_cast<uint32_t>(tokens.size()); }
  [[nodiscard]] uint32_t total() const { return known_count() + pending; }
  [[nodiscard]] uint32_t output_count() const { return known_count() - prompt_count; }
  [[nodiscard]] uint32_t uncomputed() const { return total() - computed; }
  [[nodiscard]] bool pools() const { return sampling.pooling != wire::Pooling::kNone; }
  [[nodiscard]] uint32_t prompt_logprobs_wanted() const {
    return sampling.prompt_logprobs == wire::kLogprobsNone ? 0 : prompt_count - 1;
  }
};

}  // namespace trireme::engine
