// Goal: a content is found in the slot it was put in until something else needs that slot, the
// oldest first, and never while it is pinned.
#include "engine_core/offload_index.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

BlockHash hash(uint64_t number) { return {number * 0x9E37, number}; }
constexpr StepId kStep{5};

TEST(OffloadIndex, finds_what_was_put_and_puts_nothing_twice) {
  OffloadIndex index(4);
  EXPECT_FALSE(index.find(hash(1)));
  const auto slot = index.put(hash(1), kStep);
  ASSERT_TRUE(slot);
  EXPECT_EQ(index.find(hash(1)), slot);
  EXPECT_FALSE(index.put(hash(1), kStep));
  EXPECT_EQ(index.used_count(), 1u);
}

TEST(OffloadIndex, the_least_recently_used_gives_way) {
  OffloadIndex index(3);
  for (uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(index.put(hash(i), kStep));
  EXPECT_FALSE(index.put(hash(1), kStep)) << "there, and used now";
  ASSERT_TRUE(index.put(hash(4), kStep));
  EXPECT_TRUE(index.find(hash(1)));
  EXPECT_FALSE(index.find(hash(2)));
  EXPECT_EQ(index.used_count(), 3u);
  index.check_invariants();
}

TEST(OffloadIndex, a_pinned_slot_keeps_its_content) {
  OffloadIndex index(2);
  const auto first = index.put(hash(1), kStep);
  ASSERT_TRUE(first && index.put(hash(2), kStep));
  index.pin(*first);
  index.pin(*first);
  ASSERT_TRUE(index.put(hash(3), kStep));
  ASSERT_TRUE(index.put(hash(4), kStep));
  EXPECT_EQ(index.find(hash(1)), first);
  index.pin(*index.find(hash(4)));
  EXPECT_FALSE(index.put(hash(5), kStep)) << "all are pinned";
  index.unpin_all();
  EXPECT_TRUE(index.put(hash(5), kStep));
  index.check_invariants();
}

TEST(OffloadIndex, forgets_what_a_step_and_those_after_it_put) {
  OffloadIndex index(4);
  ASSERT_TRUE(index.put(hash(1), StepId{1}));
  ASSERT_TRUE(index.put(hash(2), StepId{2}));
  ASSERT_TRUE(index.put(hash(3), StepId{3}));
  index.erase_since(StepId{2});
  EXPECT_TRUE(index.find(hash(1)));
  EXPECT_FALSE(index.find(hash(2)));
  EXPECT_FALSE(index.find(hash(3)));
  index.erase(*index.find(hash(1)));
  EXPECT_EQ(index.used_count(), 0u);
  ASSERT_TRUE(index.put(hash(1), StepId{4}));
  index.clear();
  EXPECT_FALSE(index.find(hash(1)));
  index.check_invariants();
}

}  // namespace
}  // namespace trireme::engine
