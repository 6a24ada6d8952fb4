// BlockPool: which KV blocks are held, by how many sequences, and what the free ones still contain.
//
//   free ── allocate() ─▶ held (1) ── share() ─▶ held (n) ── release() x n ─▶ free
//                            └ cache(hash): findable by content from now on, also once it is free
//
// Free blocks lie in a list from the least to the most recently used; allocate() takes the front
// and so evicts the oldest content. A block without cached content goes to the front: it is worth
// nothing. A sequence releases its blocks from the tail (release_table()), so that a chain loses
// its end before its beginning, which more requests share.
// One block per hash: a second block of equal content is not findable (cache() says so).
//
// Every call but the constructor, release_table() and reset_cache() is O(1); none allocates memory.
// Threads: one owner. Misuse (releasing a free block) is our bug and fails a check.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/id.h"
#include "engine_core/block_hash.h"

namespace trireme::engine {

class BlockPool {
 public:
  explicit BlockPool(uint32_t block_count);

  // A block nobody holds, now held once; its old content is forgotten. Nothing when all are held.
  [[nodiscard]] std::optional<BlockId> allocate();
  // What the next allocate() will forget; nothing where that block has no content to be found.
  struct Content {
    BlockId block;
    BlockHash hash;
  };
  [[nodiscard]] std::optional<Content> next_forgotten() const;
  // The block with this content, held or free.
  [[nodiscard]] std::optional<BlockId> find(const BlockHash& hash) const;
  // One more holder of a block that find() gave.
  void share(BlockId block);
  void release(BlockId block);
  void release_table(std::span<const int32_t> table);

  // The held block's content is complete. False: another block has this content already.
  bool cache(BlockId block, const BlockHash& hash);
  // Its content must not be found any more (it is wrong).
  void forget(BlockId block);
  // Forgets all content. False, and nothing is forgotten, while any block is held.
  [[nodiscard]] bool reset_cache();

  [[nodiscard]] uint32_t block_count() const { return static_cast<uint32_t>(blocks_.size()); }
  [[nodiscard]] uint32_t free_count() const { return free_count_; }
  [[nodiscard]] uint32_t held_count() const { return block_count() - free_count_; }
  [[nodiscard]] uint32_t cached_count() const { return cached_count_; }

  // For tests: checks everything above; O(block_count).
  void check_invariants() const;

 private:
  static constexpr int32_t kNone = -1;

  struct Block {
    BlockHash hash;
    uint32_t holders = 0;
    bool cached = false;
    int32_t previous = kNone;  // In the free list.
    int32_t next = kNone;
  };

  [[nodiscard]] Block& at(BlockId block);
  void push_front(int32_t block);
  void push_back(int32_t block);
  void unlink(int32_t block);
  [[nodiscard]] std::size_t home_of(const BlockHash& hash) const { return hash.low & index_mask_; }
  // Where the hash is in the index, or the empty place where it would go.
  [[nodiscard]] std::size_t probe(const BlockHash& hash) const;
  void erase_from_index(std::size_t place);

  std::vector<Block> blocks_;
  int32_t free_front_ = kNone;
  int32_t free_back_ = kNone;
  uint32_t free_count_ = 0;
  uint32_t cached_count_ = 0;
  // Hash to block: open addressing, linear probing, at most half full, so nothing ever grows.
  std::vector<int32_t> index_;
  std::size_t index_mask_;
};

}  // namespace trireme::engine
