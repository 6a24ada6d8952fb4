// Goal: the pool's rules one by one, and all of them together against a simple model under random
// operations, where a seed is a history.
#include "engine_core/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "common/random.h"

namespace trireme::engine {
namespace {

BlockHash name(uint64_t number) { return {mix64(number), number}; }

TEST(BlockPool, gives_every_block_once_then_nothing) {
  BlockPool pool(3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool.allocate().has_value());
  EXPECT_FALSE(pool.allocate().has_value());
  EXPECT_EQ(pool.held_count(), 3u);
  pool.check_invariants();
}

TEST(BlockPool, content_outlives_its_holder_until_the_block_is_needed) {
  BlockPool pool(2);
  const BlockId block = *pool.allocate();
  EXPECT_TRUE(pool.cache(block, name(7)));
  pool.release(block);
  EXPECT_EQ(pool.find(name(7)), block);
  EXPECT_NE(pool.allocate(), block) << "a block without content goes first";
  EXPECT_EQ(pool.allocate(), block);
  EXPECT_FALSE(pool.find(name(7)).has_value());
}

TEST(BlockPool, a_chain_loses_its_tail_before_its_head) {
  BlockPool pool(2);
  std::vector<int32_t> table{pool.allocate()->value, pool.allocate()->value};
  pool.cache(BlockId{table[0]}, name(0));
  pool.cache(BlockId{table[1]}, name(1));
  pool.release_table(table);
  EXPECT_EQ(pool.allocate(), BlockId{table[1]});
  EXPECT_TRUE(pool.find(name(0)).has_value());
}

TEST(BlockPool, what_was_used_longest_ago_is_forgotten_first) {
  BlockPool pool(3);
  for (uint64_t number = 0; number < 3; ++number) pool.cache(*pool.allocate(), name(number));
  for (uint64_t number = 0; number < 3; ++number) pool.release(*pool.find(name(number)));
  pool.share(*pool.find(name(0)));
  pool.release(*pool.find(name(0)));
  for (const uint64_t number : {1, 2, 0}) {
    ASSERT_TRUE(pool.find(name(number)).has_value()) << number;
    (void)pool.allocate();
    EXPECT_FALSE(pool.find(name(number)).has_value()) << number;
  }
}

TEST(BlockPool, a_shared_block_is_free_only_after_its_last_holder) {
  BlockPool pool(1);
  const BlockId block = *pool.allocate();
  pool.cache(block, name(1));
  pool.share(block);
  pool.release(block);
  EXPECT_EQ(pool.free_count(), 0u);
  pool.release(block);
  EXPECT_EQ(pool.free_count(), 1u);
  pool.share(block);
  EXPECT_EQ(pool.free_count(), 0u) << "a hit takes a free block back";
  pool.check_invariants();
}

TEST(BlockPool, equal_content_is_cached_once) {
  BlockPool pool(2);
  const BlockId first = *pool.allocate();
  const BlockId second = *pool.allocate();
  EXPECT_TRUE(pool.cache(first, name(1)));
  EXPECT_FALSE(pool.cache(second, name(1)));
  EXPECT_EQ(pool.find(name(1)), first);
}

TEST(BlockPool, reset_needs_an_idle_pool) {
  BlockPool pool(2);
  const BlockId block = *pool.allocate();
  pool.cache(block, name(1));
  EXPECT_FALSE(pool.reset_cache());
  EXPECT_TRUE(pool.find(name(1)).has_value());
  pool.release(block);
  EXPECT_TRUE(pool.reset_cache());
  EXPECT_FALSE(pool.find(name(1)).has_value());
  pool.check_invariants();
}

TEST(BlockHasher, tokens_parent_salt_and_key_all_matter) {
  BlockHashKey key{};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = mix64(i);
  const BlockHasher hasher(key);
  const std::vector<int32_t> tokens{1, 2, 3, 4};
  const std::vector<int32_t> others{1, 2, 3, 5};
  const BlockHash hash = hasher.chain(hasher.root(""), tokens);
  EXPECT_EQ(hash, hasher.chain(hasher.root(""), tokens));
  EXPECT_NE(hash, hasher.chain(hasher.root(""), others));
  EXPECT_NE(hash, hasher.chain(hasher.root("tenant"), tokens));
  EXPECT_NE(hash, hasher.chain(hash, tokens));
  key[0] ^= 1;
  EXPECT_NE(hash, BlockHasher(key).chain(hasher.root(""), tokens));
}

// The model: who holds what, and an LRU list written out.
struct Model {
  std::map<int32_t, uint32_t> holders;
  std::map<uint64_t, int32_t> content;  // Name to block.
  std::map<int32_t, uint64_t> name_of;
  std::deque<int32_t> free;

  explicit Model(int32_t count) {
    for (int32_t block = 0; block < count; ++block) free.push_back(block);
  }
  void forget(int32_t block) {
    if (name_of.contains(block)) content.erase(name_of[block]);
    name_of.erase(block);
  }
  void release(int32_t block) {
    if (--holders[block] > 0) return;
    holders.erase(block);
    if (name_of.contains(block)) {
      free.push_back(block);
    } else {
      free.push_front(block);
    }
  }
};

// A random holder's block, or nothing when none is held.
std::optional<int32_t> pick_held(const Model& model, Random& random) {
  if (model.holders.empty()) return std::nullopt;
  return std::next(model.holders.begin(), static_cast<long>(random.below(model.holders.size())))
      ->first;
}

void do_one(BlockPool& pool, Model& model, Random& random) {
  const auto held = pick_held(model, random);
  switch (random.below(5)) {
    case 0: {
      const auto block = pool.allocate();
      ASSERT_EQ(block.has_value(), !model.free.empty());
      if (!block) return;
      ASSERT_EQ(block->value, model.free.front());
      model.free.pop_front();
      model.forget(block->value);
      model.holders[block->value] = 1;
      return;
    }
    case 1: {
      const uint64_t number = random.below(40);
      const auto found = pool.find(name(number));
      ASSERT_EQ(found.has_value(), model.content.contains(number));
      if (!found) return;
      ASSERT_EQ(found->value, model.content[number]);
      pool.share(*found);
      if (model.holders[found->value]++ == 0) std::erase(model.free, found->value);
      return;
    }
    case 2:
      if (!held) return;
      pool.release(BlockId{*held});
      return model.release(*held);
    case 3: {
      const uint64_t number = random.below(40);
      if (!held || model.name_of.contains(*held)) return;
      const bool is_new = pool.cache(BlockId{*held}, name(number));
      ASSERT_EQ(is_new, !model.content.contains(number));
      if (!is_new) return;
      model.content[number] = *held;
      model.name_of[*held] = number;
      return;
    }
    default:
      if (!held || random.below(4) > 0) return;
      pool.forget(BlockId{*held});
      return model.forget(*held);
  }
}

TEST(BlockPool, agrees_with_the_model_under_random_operations) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const auto count = static_cast<int32_t>(1 + random.below(24));
    BlockPool pool(static_cast<uint32_t>(count));
    Model model(count);
    for (int i = 0; i < 400; ++i) {
      do_one(pool, model, random);
      ASSERT_EQ(pool.free_count(), model.free.size());
      ASSERT_EQ(pool.cached_count(), model.content.size());
      if (i % 16 == 0) pool.check_invariants();
      if (HasFatalFailure()) return;
    }
    pool.check_invariants();
  }
}

}  // namespace
}  // namespace trireme::engine
