// BatchLayout: a step's batch as the kernels want it: each token's slot in the KV cache, the runs
// of tokens that attention takes at once, and all block tables in one array. Pure; vectors are
// reused.
#pragma once

#include <vector>

#include "worker/kernels/cuda/attention.h"
#include "worker/models/model.h"

namespace trireme::worker::cuda {

struct BatchLayout {
  std::vector<uint32_t> slots;       // Of each token.
  std::vector<AttentionRun> runs;    // In the order of the tokens.
  std::vector<int32_t> block_table;  // Rows' blocks, one row after the other.
  uint32_t run_tokens_max = 0;
  uint32_t last_position_max = 0;

  // Rows without blocks have no slots: theirs are 0. Blocks are those of a cache of block_count.
  void fill(const ForwardBatch& batch, uint32_t block_tokens, uint32_t block_count);
};

}  // namespace trireme::worker::cuda
