#include "engine_core/kv_cache.h"

#include <algorithm>

#include "common/check.h"
#include "proto/step.h"

namespace trireme::engine {
namespace {

// A block of a table that is yet to be taken and loaded.
int32_t to_load(uint32_t slot) { return -1 - static_cast<int32_t>(slot); }
bool is_to_load(int32_t entry) { return entry < 0; }
uint32_t slot_of(int32_t entry) { return static_cast<uint32_t>(-1 - entry); }

}  // namespace

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      hasher_(options.hash_key),
      pool_(options.block_count),
      found_since_(options.block_count) {
  TRIREME_CHECK(options.block_tokens > 0 && options.block_count > 0, "checked at start");
  if (options.prefix_caching && options.store_slot_count > 0) {
    store_.emplace(options.store_slot_count);
  }
}

std::optional<CachedTokens> KvCache::admit(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                                           std::string_view salt, bool may_hit,
                                           uint32_t spare_blocks) {
  TRIREME_CHECK(blocks.table.empty() && !tokens.empty(), "only an empty table is admitted");
  const auto token_count = static_cast<uint32_t>(tokens.size());
  const uint32_t wanted = blocks_for(token_count);
  blocks.table.reserve(wanted + 8);
  blocks.newest_found = StepId{};
  uint32_t loads = 0;
  if (options_.prefix_caching && may_hit) {
    const uint32_t hits_max = (token_count - 1) / options_.block_tokens;
    extend_hashes(blocks, tokens, salt, hits_max);
    loads = find_prefix(blocks, hits_max);
  }
  const auto hits = static_cast<uint32_t>(blocks.table.size());
  if (pool_.free_count() < wanted - hits + loads + spare_blocks) {
    std::erase_if(blocks.table, is_to_load);
    release(blocks);
    return std::nullopt;
  }
  if (loads > 0) load_found(blocks);
  blocks.published = hits;
  while (blocks.table.size() < wanted) blocks.table.push_back(take_block());
  return CachedTokens{hits * options_.block_tokens, loads * options_.block_tokens};
}

bool KvCache::finds(SequenceBlocks& blocks, std::span<const int32_t> tokens, std::string_view salt,
                    uint32_t token_count) const {
  const uint32_t wanted = blocks_for(token_count);
  if (!options_.prefix_caching || wanted > (tokens.size() - 1) / options_.block_tokens)
    return false;
  extend_hashes(blocks, tokens, salt, wanted);
  // From the last: a chain loses its end before its beginning.
  for (uint32_t i = wanted; i > 0; --i) {
    const BlockHash& hash = blocks.hashes[i - 1];
    if (!pool_.find(hash) && !(store_ && store_->find(hash))) return false;
  }
  return true;
}

// Gives how many of them are yet to be loaded.
uint32_t KvCache::find_prefix(SequenceBlocks& blocks, uint32_t block_count) {
  uint32_t loads = 0;
  while (blocks.table.size() < block_count) {
    const BlockHash& hash = blocks.hashes[blocks.table.size()];
    if (const auto hit = pool_.find(hash)) {
      pool_.share(*hit);
      blocks.table.push_back(hit->value);
      blocks.newest_found =
          std::max(blocks.newest_found, found_since_[static_cast<std::size_t>(hit->value)]);
      continue;
    }
    const auto slot = store_ ? store_->find(hash) : std::nullopt;
    if (!slot) break;
    blocks.table.push_back(to_load(*slot));
    ++loads;
  }
  return loads;
}

// All are pinned before the first block is taken, whose content may need a slot.
void KvCache::load_found(SequenceBlocks& blocks) {
  for (const int32_t entry : blocks.table) {
    if (is_to_load(entry)) store_->pin(slot_of(entry));
  }
  for (std::size_t i = 0; i < blocks.table.size(); ++i) {
    if (!is_to_load(blocks.table[i])) continue;
    const uint32_t slot = slot_of(blocks.table[i]);
    const int32_t block = take_block();
    blocks.table[i] = block;
    load_blocks_.push_back(block);
    load_slots_.push_back(slot);
    TRIREME_CHECK(pool_.cache(BlockId{block}, blocks.hashes[i]), "it was not in the cache");
    found_since_[static_cast<std::size_t>(block)] = step_;
  }
  blocks.newest_found = step_;
}

int32_t KvCache::take_block() {
  if (store_) save_next_forgotten();
  return pool_.allocate()->value;
}

void KvCache::save_next_forgotten() {
  const auto content = pool_.next_forgotten();
  if (!content || cancel_load(content->block.value)) return;
  const auto slot = store_->put(content->hash, step_);
  if (!slot) return;
  save_blocks_.push_back(content->block.value);
  save_slots_.push_back(*slot);
}

// A block that this very step was to load contains nothing yet.
bool KvCache::cancel_load(int32_t block) {
  if (found_since_[static_cast<std::size_t>(block)] != step_) return false;
  const auto at = std::ranges::find(load_blocks_, block);
  if (at == load_blocks_.end()) return false;
  load_slots_.erase(load_slots_.begin() + (at - load_blocks_.begin()));
  load_blocks_.erase(at);
  return true;
}

bool KvCache::grow(SequenceBlocks& blocks, uint32_t token_count) {
  const std::size_t before = blocks.table.size();
  const uint32_t wanted = blocks_for(token_count);
  if (wanted > before && pool_.free_count() < wanted - before) return false;
  while (blocks.table.size() < wanted) blocks.table.push_back(take_block());
  return true;
}

void KvCache::publish(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                      std::string_view salt) {
  if (!options_.prefix_caching) return;
  const auto full = static_cast<uint32_t>(tokens.size() / options_.block_tokens);
  if (full <= blocks.published) return;
  extend_hashes(blocks, tokens, salt, full);
  for (; blocks.published < full; ++blocks.published) {
    const BlockId block{blocks.table[blocks.published]};
    if (!pool_.cache(block, blocks.hashes[blocks.published])) continue;
    found_since_[static_cast<std::size_t>(block.value)] = step_;
  }
}

void KvCache::release(SequenceBlocks& blocks) {
  pool_.release_table(blocks.table);
  blocks.table.clear();
  blocks.published = 0;
}

void KvCache::discard(SequenceBlocks& blocks) {
  for (const int32_t block : blocks.table) pool_.forget(BlockId{block});
  if (store_) {
    for (const BlockHash& hash : blocks.hashes) store_->erase(hash);
  }
  release(blocks);
}

void KvCache::put_moves(wire::StepInput& step) {
  if (!store_) return;
  step.save_blocks.swap(save_blocks_);
  step.save_slots.swap(save_slots_);
  step.load_blocks.swap(load_blocks_);
  step.load_slots.swap(load_slots_);
  save_blocks_.clear();
  save_slots_.clear();
  load_blocks_.clear();
  load_slots_.clear();
  store_->unpin_all();
}

void KvCache::lose_slot(uint32_t slot) {
  TRIREME_CHECK(store_ && slot < store_->slot_count(), "results are checked");
  store_->erase(slot);
}

void KvCache::forget_since(StepId step) {
  for (std::size_t block = 0; block < found_since_.size(); ++block) {
    if (found_since_[block] >= step) pool_.forget(BlockId{static_cast<int32_t>(block)});
  }
  if (store_) store_->erase_since(step);
}

// Moves that no step has taken are forgotten with what they were for.
bool KvCache::reset_prefix_cache() {
  if (!pool_.reset_cache()) return false;
  if (!store_) return true;
  for (auto* moves : {&save_blocks_, &load_blocks_}) moves->clear();
  for (auto* moves : {&save_slots_, &load_slots_}) moves->clear();
  store_->clear();
  return true;
}

float KvCache::usage() const {
  return static_cast<float>(pool_.held_count()) / static_cast<float>(pool_.block_count());
}

void KvCache::check_invariants() const {
  pool_.check_invariants();
  if (!store_) return;
  store_->check_invariants();
  TRIREME_CHECK(save_blocks_.size() == save_slots_.size(), "a block for each slot");
  TRIREME_CHECK(load_blocks_.size() == load_slots_.size(), "a block for each slot");
}

void KvCache::extend_hashes(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                            std::string_view salt, uint32_t block_count) const {
  while (blocks.hashes.size() < block_count) {
    const std::size_t index = blocks.hashes.size();
    const BlockHash parent = index == 0 ? hasher_.root(salt) : blocks.hashes.back();
    blocks.hashes.push_back(hasher_.chain(
        parent, tokens.subspan(index * options_.block_tokens, options_.block_tokens)));
  }
}

}  // namespace trireme::engine
