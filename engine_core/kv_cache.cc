#include "engine_core/kv_cache.h"

#include "common/check.h"

namespace trireme::engine {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options), hasher_(options.hash_key), pool_(options.block_count) {
  TRIREME_CHECK(options.block_tokens > 0 && options.block_count > 0, "checked at start");
}

std::optional<uint32_t> KvCache::admit(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                                       std::string_view salt, bool may_hit, uint32_t spare_blocks) {
  TRIREME_CHECK(blocks.table.empty() && !tokens.empty(), "only an empty table is admitted");
  const auto token_count = static_cast<uint32_t>(tokens.size());
  const uint32_t wanted = blocks_for(token_count);
  blocks.table.reserve(wanted + 8);
  if (options_.prefix_caching && may_hit) {
    const uint32_t hits_max = (token_count - 1) / options_.block_tokens;
    extend_hashes(blocks, tokens, salt, hits_max);
    while (blocks.table.size() < hits_max) {
      const auto hit = pool_.find(blocks.hashes[blocks.table.size()]);
      if (!hit) break;
      pool_.share(*hit);
      blocks.table.push_back(hit->value);
    }
  }
  const auto hits = static_cast<uint32_t>(blocks.table.size());
  if (pool_.free_count() < wanted - hits + spare_blocks) {
    release(blocks);
    return std::nullopt;
  }
  blocks.published = hits;
  while (blocks.table.size() < wanted) blocks.table.push_back(pool_.allocate()->value);
  return hits * options_.block_tokens;
}

bool KvCache::grow(SequenceBlocks& blocks, uint32_t token_count) {
  const std::size_t before = blocks.table.size();
  const uint32_t wanted = blocks_for(token_count);
  if (wanted > before && pool_.free_count() < wanted - before) return false;
  while (blocks.table.size() < wanted) blocks.table.push_back(pool_.allocate()->value);
  return true;
}

void KvCache::publish(SequenceBlocks& blocks, std::span<const int32_t> tokens,
                      std::string_view salt) {
  if (!options_.prefix_caching) return;
  const auto full = static_cast<uint32_t>(tokens.size() / options_.block_tokens);
  if (full <= blocks.published) return;
  extend_hashes(blocks, tokens, salt, full);
  for (; blocks.published < full; ++blocks.published) {
    pool_.cache(BlockId{blocks.table[blocks.published]}, blocks.hashes[blocks.published]);
  }
}

void KvCache::release(SequenceBlocks& blocks) {
  pool_.release_table(blocks.table);
  blocks.table.clear();
  blocks.published = 0;
}

void KvCache::discard(SequenceBlocks& blocks) {
  for (const int32_t block : blocks.table) pool_.forget(BlockId{block});
  release(blocks);
}

float KvCache::usage() const {
  return static_cast<float>(pool_.held_count()) / static_cast<float>(pool_.block_count());
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
