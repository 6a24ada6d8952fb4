// KvCache: the block tables of sequences, over a BlockPool: what a prompt finds in the prefix
// cache, what it gets anew, and what of it others may find.
//
//   admit()    cached blocks for the longest known prefix, free ones for the rest of the tokens
//   grow()     blocks for more tokens; refused when there is none
//   publish()  full blocks that the steps handed out so far will have filled become findable
//   release()  from the tail; the content stays findable until the blocks are needed
//
// At most tokens - 1 tokens come from the cache: the last one must be computed to sample the next.
// Order: workers run steps in the order they were made, so a block may be published once the step
// that fills it has been made, and reused once its last reader's step has been made.
//
// Threads: one owner. grow() and publish() allocate no memory while a table stays within its
// reserve.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine_core/block_hash.h"
#include "engine_core/block_pool.h"

namespace trireme::engine {

struct SequenceBlocks {
  std::vector<int32_t> table;     // Block ids, as workers get them.
  std::vector<BlockHash> hashes;  // Of the first full blocks; kept over preemption.
  uint32_t published = 0;         // This many blocks of the table need no publish().
};

struct KvCacheOptions {
  uint32_t block_count = 0;
  uint32_t block_tokens = 16;
  bool prefix_caching = true;
  BlockHashKey hash_key{};
};

class KvCache {
 public:
  explicit KvCache(const KvCacheOptions& options);

  // Fills an empty table so that it holds all of `tokens`; gives how many of them are computed
  // already. Nothing, and nothing taken, unless `spare_blocks` more blocks stay free.
  [[nodiscard]] std::optional<uint32_t> admit(SequenceBlocks& blocks,
                                              std::span<const int32_t> tokens,
                                              std::string_view salt, bool may_hit,
                                              uint32_t spare_blocks);
  // False: no block is free; the table is as before.
  [[nodiscard]] bool grow(SequenceBlocks& blocks, uint32_t token_count);
  // `tokens`: those whose KV is computed by the steps made so far.
  void publish(SequenceBlocks& blocks, std::span<const int32_t> tokens, std::string_view salt);
  void release(SequenceBlocks& blocks);
  // As release(), and nothing of it is found again: its content is wrong.
  void discard(SequenceBlocks& blocks);

  [[nodiscard]] bool reset_prefix_cache() { return pool_.reset_cache(); }
  [[nodiscard]] uint32_t block_tokens() const { return options_.block_tokens; }
  [[nodiscard]] uint32_t blocks_for(uint32_t token_count) const {
    return (token_count + options_.block_tokens - 1) / options_.block_tokens;
  }
  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  // Of blocks held by sequences, in [0, 1].
  [[nodiscard]] float usage() const;

 private:
  void extend_hashes(SequenceBlocks& blocks, std::span<const int32_t> tokens, std::string_view salt,
                     uint32_t block_count) const;

  KvCacheOptions options_;
  BlockHasher hasher_;
  BlockPool pool_;
};

}  // namespace trireme::engine
