// KvCache: the block tables of sequences, over a BlockPool: what a prompt finds in the prefix
// cache, what it gets anew, and what of it others may find.
//
//   admit()    cached blocks for the longest known prefix, free ones for the rest of the tokens
//   grow()     blocks for more tokens; refused when there is none
//   publish()  full blocks that the steps handed out so far will have filled become findable
//   release()  from the tail; the content stays findable until the blocks are needed
//
// With a store behind it (store_slot_count > 0: memory or a disk beside every worker's KV memory),
// what blocks contain is saved there before they are needed for something else, and loaded into
// fresh blocks when a prompt goes on with it. The moves are planned here and done by the workers at
// the beginning of the step that put_moves() gives them to; whoever finds a block that is loaded by
// this step, or was filled by an earlier one, computes after that.
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
#include "engine_core/offload_index.h"

namespace trireme::wire {
struct StepInput;
}  // namespace trireme::wire

namespace trireme::engine {

struct SequenceBlocks {
  std::vector<int32_t> table;     // Block ids, as workers get them.
  std::vector<BlockHash> hashes;  // Of the first full blocks; kept over preemption.
  uint32_t published = 0;         // This many blocks of the table need no publish().
  // The latest step that made findable what the table was admitted with; 0: it found nothing.
  StepId newest_found;
};

struct KvCacheOptions {
  uint32_t block_count = 0;
  uint32_t block_tokens = 16;
  bool prefix_caching = true;
  BlockHashKey hash_key{};
  uint32_t store_slot_count = 0;  // Blocks that fit into the store; 0: there is none.
};

// Of a prompt, what need not be computed.
struct CachedTokens {
  uint32_t count = 0;
  uint32_t loaded = 0;  // Of them from the store.
};

class KvCache {
 public:
  explicit KvCache(const KvCacheOptions& options);

  // What is done from here on belongs to this step. Rising.
  void begin_step(StepId step) { step_ = step; }
  // Fills an empty table so that it holds all of `tokens`; gives how many of them are computed
  // already. Nothing, and nothing taken, unless `spare_blocks` more blocks stay free.
  [[nodiscard]] std::optional<CachedTokens> admit(SequenceBlocks& blocks,
                                                  std::span<const int32_t> tokens,
                                                  std::string_view salt, bool may_hit,
                                                  uint32_t spare_blocks);
  // Whether admit() would find at least so many of `tokens`. Takes nothing; hashes what it looks
  // for once, and where it is not there mostly looks once.
  [[nodiscard]] bool finds(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                           std::string_view salt, uint32_t token_count) const;
  // False: no block is free; the table is as before.
  [[nodiscard]] bool grow(SequenceBlocks& blocks, uint32_t token_count);
  // `tokens`: those whose KV is computed by the steps made so far.
  void publish(SequenceBlocks& blocks, std::span<const int32_t> tokens, std::string_view salt);
  void release(SequenceBlocks& blocks);
  // As release(), and nothing of it is found again: its content is wrong.
  void discard(SequenceBlocks& blocks);

  // The moves between blocks and store that were planned since the last call.
  void put_moves(wire::StepInput& step);
  // A worker could not write or read it.
  void lose_slot(uint32_t slot);
  // A load of this step failed: what has become findable since may have come from it.
  void forget_since(StepId step);

  // False, and nothing is forgotten, while any block is held.
  [[nodiscard]] bool reset_prefix_cache();
  [[nodiscard]] uint32_t block_tokens() const { return options_.block_tokens; }
  [[nodiscard]] uint32_t blocks_for(uint32_t token_count) const {
    return (token_count + options_.block_tokens - 1) / options_.block_tokens;
  }
  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  [[nodiscard]] uint32_t stored_count() const { return store_ ? store_->used_count() : 0; }
  // For tests: O(everything).
  void check_invariants() const;
  // Of blocks held by sequences, in [0, 1].
  [[nodiscard]] float usage() const;

 private:
  void extend_hashes(SequenceBlocks& blocks, std::span<const int32_t> tokens, std::string_view salt,
                     uint32_t block_count) const;
  uint32_t find_prefix(SequenceBlocks& blocks, uint32_t block_count);
  void load_found(SequenceBlocks& blocks);
  [[nodiscard]] int32_t take_block();
  void save_next_forgotten();
  [[nodiscard]] bool cancel_load(int32_t block);

  KvCacheOptions options_;
  BlockHasher hasher_;
  BlockPool pool_;
  StepId step_;
  std::optional<OffloadIndex> store_;
  std::vector<StepId> found_since_;  // By block: the step that made its content findable.
  // Of the step being made, in order.
  std::vector<int32_t> save_blocks_;
  std::vector<uint32_t> save_slots_;
  std::vector<int32_t> load_blocks_;
  std::vector<uint32_t> load_slots_;
};

}  // namespace trireme::engine
