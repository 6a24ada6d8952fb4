#include "worker/kernels/cuda/batch_layout.h"

#include <algorithm>

#include "common/check.h"

namespace trireme::worker::cuda {

void BatchLayout::fill(const ForwardBatch& batch, uint32_t block_tokens, uint32_t block_count) {
  slots.assign(batch.tokens.size(), 0);
  runs.clear();
  block_table.clear();
  run_tokens_max = 0;
  last_position_max = 0;
  for (const ForwardRow& row : batch.rows) {
    const auto blocks_begin = static_cast<uint32_t>(block_table.size());
    const std::size_t needed = (row.start + row.token_count + block_tokens - 1) / block_tokens;
    const auto blocks = row.blocks.first(std::min(needed, row.blocks.size()));
    block_table.insert(block_table.end(), blocks.begin(), blocks.end());
    for (const int32_t block : blocks) {
      TRIREME_CHECK(static_cast<uint32_t>(block) < block_count,
                    "the engine hands out blocks that exist");
    }
    for (uint32_t i = 0; i < row.token_count && !blocks.empty(); ++i) {
      const auto position = static_cast<uint32_t>(batch.positions[row.token_begin + i]);
      const auto block = static_cast<uint32_t>(blocks[position / block_tokens]);
      slots[row.token_begin + i] = block * block_tokens + position % block_tokens;
    }
    const uint32_t last_position = row.start + row.token_count - 1;
    if (row.token_count > 0) last_position_max = std::max(last_position_max, last_position);
    for (uint32_t i = 0; i < row.token_count; i += kRunTokensMax) {
      const uint32_t count = std::min(kRunTokensMax, row.token_count - i);
      runs.push_back({.token_begin = row.token_begin + i,
                      .token_count = count,
                      .blocks_begin = blocks_begin,
                      .last_position = last_position});
      run_tokens_max = std::max(run_tokens_max, count);
    }
  }
}

}  // namespace trireme::worker::cuda
