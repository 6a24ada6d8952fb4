#include "engine_core/block_pool.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace trireme::engine {

BlockPool::BlockPool(uint32_t block_count)
    : blocks_(block_count),
      index_(std::bit_ceil(std::size_t{block_count} * 2 + 1), kNone),
      index_mask_(index_.size() - 1) {
  for (uint32_t block = 0; block < block_count; ++block) push_back(static_cast<int32_t>(block));
}

BlockPool::Block& BlockPool::at(BlockId block) {
  TRIREME_CHECK(block.value >= 0 && static_cast<std::size_t>(block.value) < blocks_.size(),
                "block ids come from this pool");
  return blocks_[static_cast<std::size_t>(block.value)];
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_front_ == kNone) return std::nullopt;
  const BlockId taken{free_front_};
  unlink(taken.value);
  forget(taken);
  at(taken).holders = 1;
  return taken;
}

std::optional<BlockPool::Content> BlockPool::next_forgotten() const {
  if (free_front_ == kNone) return std::nullopt;
  const Block& next = blocks_[static_cast<std::size_t>(free_front_)];
  if (!next.cached) return std::nullopt;
  return Content{BlockId{free_front_}, next.hash};
}

std::optional<BlockId> BlockPool::find(const BlockHash& hash) const {
  const int32_t block = index_[probe(hash)];
  if (block == kNone) return std::nullopt;
  return BlockId{block};
}

void BlockPool::share(BlockId block) {
  if (at(block).holders++ == 0) unlink(block.value);
}

void BlockPool::release(BlockId block) {
  Block& released = at(block);
  TRIREME_CHECK(released.holders > 0, "only a held block is released");
  if (--released.holders > 0) return;
  if (released.cached) {
    push_back(block.value);
  } else {
    push_front(block.value);
  }
}

void BlockPool::release_table(std::span<const int32_t> table) {
  for (auto block = table.rbegin(); block != table.rend(); ++block) release(BlockId{*block});
}

bool BlockPool::cache(BlockId block, const BlockHash& hash) {
  Block& filled = at(block);
  TRIREME_CHECK(filled.holders > 0 && !filled.cached, "only its holder completes a block, once");
  const std::size_t place = probe(hash);
  if (index_[place] != kNone) return false;
  index_[place] = block.value;
  filled.hash = hash;
  filled.cached = true;
  ++cached_count_;
  return true;
}

void BlockPool::forget(BlockId block) {
  Block& forgotten = at(block);
  if (!forgotten.cached) return;
  erase_from_index(probe(forgotten.hash));
  forgotten.cached = false;
  --cached_count_;
}

bool BlockPool::reset_cache() {
  if (held_count() > 0) return false;
  std::fill(index_.begin(), index_.end(), kNone);
  for (Block& block : blocks_) block.cached = false;
  cached_count_ = 0;
  return true;
}

void BlockPool::push_front(int32_t block) {
  Block& pushed = blocks_[static_cast<std::size_t>(block)];
  pushed.previous = kNone;
  pushed.next = free_front_;
  (free_front_ == kNone ? free_back_ : blocks_[static_cast<std::size_t>(free_front_)].previous) =
      block;
  free_front_ = block;
  ++free_count_;
}

void BlockPool::push_back(int32_t block) {
  Block& pushed = blocks_[static_cast<std::size_t>(block)];
  pushed.next = kNone;
  pushed.previous = free_back_;
  (free_back_ == kNone ? free_front_ : blocks_[static_cast<std::size_t>(free_back_)].next) = block;
  free_back_ = block;
  ++free_count_;
}

void BlockPool::unlink(int32_t block) {
  const Block& taken = blocks_[static_cast<std::size_t>(block)];
  (taken.previous == kNone ? free_front_ : blocks_[static_cast<std::size_t>(taken.previous)].next) =
      taken.next;
  (taken.next == kNone ? free_back_ : blocks_[static_cast<std::size_t>(taken.next)].previous) =
      taken.previous;
  --free_count_;
}

std::size_t BlockPool::probe(const BlockHash& hash) const {
  std::size_t place = home_of(hash);
  while (index_[place] != kNone && blocks_[static_cast<std::size_t>(index_[place])].hash != hash) {
    place = (place + 1) & index_mask_;
  }
  return place;
}

// Closes the gap by moving back what was pushed past it, so that probes need no tombstones.
void BlockPool::erase_from_index(std::size_t place) {
  std::size_t gap = place;
  for (std::size_t next = (gap + 1) & index_mask_; index_[next] != kNone;
       next = (next + 1) & index_mask_) {
    const std::size_t home = home_of(blocks_[static_cast<std::size_t>(index_[next])].hash);
    if (((next - home) & index_mask_) < ((next - gap) & index_mask_)) continue;
    index_[gap] = index_[next];
    gap = next;
  }
  index_[gap] = kNone;
}

void BlockPool::check_invariants() const {
  std::vector<bool> is_free(blocks_.size(), false);
  uint32_t free_seen = 0;
  int32_t previous = kNone;
  for (int32_t block = free_front_; block != kNone;
       block = blocks_[static_cast<std::size_t>(block)].next) {
    const auto index = static_cast<std::size_t>(block);
    TRIREME_CHECK(!is_free[index], "the free list has no loop");
    TRIREME_CHECK(blocks_[index].previous == previous, "the free list agrees both ways");
    is_free[index] = true;
    previous = block;
    ++free_seen;
  }
  TRIREME_CHECK(free_seen == free_count_ && previous == free_back_, "the free list is whole");
  uint32_t cached_seen = 0;
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    TRIREME_CHECK((blocks_[block].holders == 0) == is_free[block], "free means held by nobody");
    if (!blocks_[block].cached) continue;
    ++cached_seen;
    TRIREME_CHECK(index_[probe(blocks_[block].hash)] == static_cast<int32_t>(block),
                  "cached content is findable");
  }
  const auto indexed =
      std::count_if(index_.begin(), index_.end(), [](int32_t b) { return b >= 0; });
  TRIREME_CHECK(cached_seen == cached_count_ && indexed == cached_seen, "the index is whole");
}

}  // namespace trireme::engine
