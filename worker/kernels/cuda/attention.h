// Attention over the paged KV cache: prompts, chunks of prompts and single tokens in one kernel.
//
// A query is one head of one token. Positions are cut into spans of kSpanTokens, from position 0
// on, whatever a token sees of them. A block takes one span for up to kQueriesAtOnce neighbouring
// queries of one run that share a KV head, so that K and V are read once for them; within the span,
// chunk after chunk of 32 positions:
//
//   K of the chunk -> shared memory;  a lane scores one position, a warp one query after the other
//   new largest score, weights e^(score - largest), the old sums times e^(old - new largest)
//   V of the chunk -> the same memory; a thread adds weight · V for its columns of all queries
//
// What a span comes to, [sums | largest score | sum of weights], goes to a workspace; a second
// kernel adds the spans of each query. So one long sequence keeps many blocks busy, a prompt as
// well.
//
// Order of sums: a score runs along the head; weights of a chunk are added by the warp's butterfly;
// outputs run along the positions; chunks and spans follow in order. So a query's bits depend on
// its position, its window and the head's size alone: not on its company, nor on where a prompt was
// cut. Everything beside the cache is fp32. What a token does not see is never used, even if it is
// NaN.
#pragma once

#include "worker/device_types.h"
#include "worker/kernels/cuda/kv_cache.h"
#include "worker/kernels/cuda/queue.h"

namespace trireme::worker::cuda {

inline constexpr uint32_t kHeadSizeMax = 256;
inline constexpr uint32_t kSpanTokens = 256;
inline constexpr uint32_t kRunTokensMax = 16;

// Neighbouring tokens of one sequence, up to kRunTokensMax.
struct AttentionRun {
  uint32_t token_begin = 0;  // Rows of q.
  uint32_t token_count = 0;
  uint32_t blocks_begin = 0;   // The sequence's blocks, in the table of all.
  uint32_t last_position = 0;  // That has KV.
};

// All in device memory.
struct AttentionBatch {
  const AttentionRun* runs = nullptr;
  uint32_t run_count = 0;
  uint32_t run_tokens_max = 0;  // The longest there is.
  uint32_t last_position_max = 0;
  const int32_t* block_table = nullptr;  // Of all sequences, one after the other.
  const int32_t* positions = nullptr;    // Of each token.
};

// Floats of workspace that suit the batch: for all of it, or for a part of a large one at a time.
[[nodiscard]] std::size_t attention_workspace(const AttentionBatch& batch,
                                              const AttentionShape& shape);
// workspace: device memory, attention_workspace() floats.
void attend(const KvLayer& layer, const AttentionBatch& batch, const AttentionShape& shape,
            const View& q, const View& out, float* workspace, Queue& queue);

}  // namespace trireme::worker::cuda
