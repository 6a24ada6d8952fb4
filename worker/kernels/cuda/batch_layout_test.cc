// Goal: slots, runs and block tables of a batch lead to the blocks that the engine gave.
#include "worker/kernels/cuda/batch_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace trireme::worker::cuda {
namespace {

using testing::ElementsAre;

struct Part {
  uint32_t token_begin;
  uint32_t token_count;
  uint32_t blocks_begin;
  uint32_t last_position;

  bool operator==(const Part&) const = default;
};

std::vector<Part> runs_of(const BatchLayout& layout) {
  std::vector<Part> runs;
  for (const AttentionRun& run : layout.runs) {
    runs.push_back({run.token_begin, run.token_count, run.blocks_begin, run.last_position});
  }
  return runs;
}

TEST(BatchLayout, a_token_s_slot_lies_in_the_block_of_its_position) {
  const std::vector<int32_t> first = {5, 2};
  const std::vector<int32_t> second = {0, 7, 1};
  // The second row goes on at position 9; its last block is for later.
  const std::vector<int32_t> positions = {0, 1, 2, 3, 4, 9};
  const ForwardRow rows[] = {{.token_begin = 0, .token_count = 5, .start = 0, .blocks = first},
                             {.token_begin = 5, .token_count = 1, .start = 9, .blocks = second}};
  BatchLayout layout;
  layout.fill({.tokens = positions, .positions = positions, .rows = rows}, 4, 8);
  EXPECT_THAT(layout.slots, ElementsAre(20, 21, 22, 23, 8, 1 * 4 + 1));
  EXPECT_THAT(layout.block_table, ElementsAre(5, 2, 0, 7, 1));
  EXPECT_THAT(runs_of(layout), ElementsAre(Part{0, 5, 0, 4}, Part{5, 1, 2, 9}));
  EXPECT_EQ(layout.run_tokens_max, 5U);
  EXPECT_EQ(layout.last_position_max, 9U);
}

TEST(BatchLayout, a_chunk_of_a_prompt_is_cut_into_runs_and_blocks_behind_it_are_left_out) {
  const std::vector<int32_t> blocks = {3, 4, -1};
  std::vector<int32_t> positions(20);
  std::iota(positions.begin(), positions.end(), 10);
  const ForwardRow row{.token_count = 20, .start = 10, .blocks = blocks};
  BatchLayout layout;
  layout.fill({.tokens = positions, .positions = positions, .rows = std::span(&row, 1)}, 16, 5);
  EXPECT_THAT(layout.block_table, ElementsAre(3, 4));
  EXPECT_THAT(runs_of(layout), ElementsAre(Part{0, 16, 0, 29}, Part{16, 4, 0, 29}));
  EXPECT_EQ(layout.run_tokens_max, kRunTokensMax);
  layout.fill({}, 16, 5);
  EXPECT_TRUE(layout.slots.empty() && layout.runs.empty() && layout.block_table.empty());
  EXPECT_EQ(layout.run_tokens_max, 0U);
}

}  // namespace
}  // namespace trireme::worker::cuda
