// Goal: the index proposes what a plain search over all the tokens would. Method: rules by hand,
// then random sequences of few tokens against that search.
#include "engine_core/ngram_index.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/random.h"

namespace trireme::engine {
namespace {

using Tokens = std::vector<int32_t>;

std::optional<uint32_t> find(const Tokens& tokens, NgramBounds bounds) {
  return NgramIndex().find(tokens, bounds);
}

TEST(NgramIndex, proposes_what_followed_the_last_tokens_before) {
  EXPECT_EQ(find({1, 2, 3, 4, 5, 1, 2, 3}, {2, 3}), 3u);
  EXPECT_EQ(find({1, 2, 3, 4, 5, 1, 2, 9}, {2, 3}), std::nullopt);
}

TEST(NgramIndex, the_longest_match_wins_and_of_equals_the_first) {
  EXPECT_EQ(find({7, 3, 9, 2, 3, 8, 2, 3}, {1, 2}), 5u) << "2 3, not 3";
  EXPECT_EQ(find({2, 3, 9, 2, 3, 8, 2, 3}, {1, 2}), 2u);
}

TEST(NgramIndex, a_repetition_proposes_itself) {
  EXPECT_EQ(find({5, 5, 5, 5}, {1, 3}), 3u);
  EXPECT_EQ(find({5, 5, 5, 5}, {2, 2}), 2u);
}

TEST(NgramIndex, too_few_tokens_propose_nothing) {
  EXPECT_EQ(find({}, {1, 3}), std::nullopt);
  EXPECT_EQ(find({5}, {1, 3}), std::nullopt);
  EXPECT_EQ(find({5, 5}, {1, 3}), 1u);
}

std::optional<uint32_t> search(const Tokens& tokens, const NgramBounds& bounds) {
  for (uint32_t length = bounds.longest; length >= bounds.shortest; --length) {
    if (tokens.size() <= length) continue;
    const auto last = tokens.end() - length;
    const auto found = std::search(tokens.begin(), tokens.end() - 1, last, tokens.end());
    if (found == tokens.end() - 1) continue;
    return static_cast<uint32_t>(found - tokens.begin()) + length;
  }
  return std::nullopt;
}

TEST(NgramIndex, finds_what_a_search_finds_while_the_sequence_grows) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    const auto shortest = 1 + static_cast<uint32_t>(random.below(4));
    const NgramBounds bounds{shortest, shortest + static_cast<uint32_t>(random.below(4))};
    const uint64_t vocabulary = 1 + random.below(5);
    NgramIndex index;
    Tokens tokens;
    for (int step = 0; step < 60; ++step) {
      for (uint64_t more = random.below(4); more > 0; --more) {
        tokens.push_back(static_cast<int32_t>(random.below(vocabulary)));
      }
      ASSERT_EQ(index.find(tokens, bounds), search(tokens, bounds));
    }
  }
}

}  // namespace
}  // namespace trireme::engine
