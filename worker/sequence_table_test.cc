// What steps may say, and that everything else is a Status.
#include "worker/sequence_table.h"

#include <gtest/gtest.h>

#include "worker/step_for_test.h"

namespace trireme::worker {
namespace {

constexpr SequenceTable::Limits kLimits{
    .vocabulary_size = 100, .block_count = 10, .block_tokens = 4};

class Table : public ::testing::Test {
 protected:
  void expect_broken(const StepForTest& step, std::string_view words) {
    const Status status = table_.apply(step.input);
    EXPECT_EQ(status.code(), StatusCode::kInternal);
    EXPECT_NE(std::string(status.message()).find(words), std::string::npos) << status;
  }

  SequenceTable table_{kLimits};
};

TEST_F(Table, keeps_what_steps_tell) {
  StepForTest step;
  step.arrive(3, {1, 2, 3}, {7}).row(3, 0, 3);
  ASSERT_TRUE(table_.apply(step.input).ok());
  EXPECT_EQ(table_.at(3).tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(table_.at(3).blocks, (std::vector<int32_t>{7}));
  table_.append(3, 4);
  StepForTest next;
  next.row(3, 3, 1).row_known(4, {5}).row_blocks({2, 1});
  EXPECT_FALSE(table_.apply(next.input).ok()) << "samples before the last token";
}

TEST_F(Table, known_tokens_extend_and_known_again_change_nothing) {
  StepForTest step;
  step.arrive(0, {1, 2}, {7, 8}).row(0, 0, 2);
  ASSERT_TRUE(table_.apply(step.input).ok());
  StepForTest next;
  next.row(0, 2, 1).row_known(1, {2, 9});
  ASSERT_TRUE(table_.apply(next.input).ok());
  EXPECT_EQ(table_.at(0).tokens, (std::vector<int32_t>{1, 2, 9}));
  ASSERT_TRUE(table_.apply(next.input).ok());
  EXPECT_EQ(table_.at(0).tokens.size(), 3u);
  StepForTest other;
  other.row(0, 2, 1).row_known(2, {8});
  expect_broken(other, "token 2 is 9 here, but 8 in the engine");
}

TEST_F(Table, bad_logits_leave_a_token_for_the_row_that_is_on_its_way) {
  StepForTest step;
  step.arrive(0, {1, 2}, {7}).row(0, 0, 2);
  ASSERT_TRUE(table_.apply(step.input).ok());
  table_.append(0, wire::kBadLogits);
  StepForTest next;
  next.row(0, 2, 1);
  EXPECT_TRUE(table_.apply(next.input).ok());
}

TEST_F(Table, freed_slot_is_empty_and_freeing_twice_changes_nothing) {
  StepForTest step;
  step.arrive(0, {1}, {7}).row(0, 0, 1);
  ASSERT_TRUE(table_.apply(step.input).ok());
  StepForTest free;
  free.input.freed_slots = {0, 5, 0};
  EXPECT_TRUE(table_.apply(free.input).ok());
  StepForTest row;
  row.row(0, 0, 1);
  expect_broken(row, "row 0 is of slot 0, which is empty");
}

TEST_F(Table, slot_freed_and_taken_in_one_step_holds_the_new_sequence) {
  StepForTest step;
  step.arrive(0, {1}, {7}).row(0, 0, 1);
  ASSERT_TRUE(table_.apply(step.input).ok());
  StepForTest next;
  next.input.freed_slots = {0};
  next.arrive(0, {5, 6}, {2}).row(0, 0, 2);
  ASSERT_TRUE(table_.apply(next.input).ok());
  EXPECT_EQ(table_.at(0).tokens, (std::vector<int32_t>{5, 6}));
}

TEST_F(Table, counts_are_kept_only_for_penalties) {
  StepForTest step;
  step.arrive(0, {1, 1, 2}, {7}).arrive(1, {1}, {8}).row(0, 0, 3);
  step.input.new_sequences[0].prompt_count = 1;
  step.input.new_sequences[0].sampling.frequency_penalty = 1;
  ASSERT_TRUE(table_.apply(step.input).ok());
  table_.append(0, 2);
  EXPECT_TRUE(table_.at(1).counts.entries().empty());
  ASSERT_EQ(table_.at(0).counts.entries().size(), 2u);
  EXPECT_EQ(table_.at(0).counts.entries()[0].output_count, 1u);
  EXPECT_EQ(table_.at(0).counts.entries()[1].output_count, 2u);
}

TEST_F(Table, rows_that_do_not_fit_are_refused) {
  expect_broken(StepForTest().arrive(0, {1}, {7}).row(0, 0, 2), "tokens [0, 2) of 1");
  expect_broken(StepForTest().arrive(0, {1}, {7}).row(0, 0, 0), "no tokens to compute");
  expect_broken(StepForTest().arrive(0, {1}, {}).row(0, 0, 1), "1 tokens in 0 blocks of 4");
  expect_broken(StepForTest().arrive(0, {1, 2}, {7}).row(0, 0, 1), "samples after token 1 of 2");
  expect_broken(StepForTest().arrive(0, {1}, {7}).row(0, 0, 1).row(0, 0, 1), "two rows");
  expect_broken(StepForTest().arrive(0, {1}, {7}).row(0, 0, 1).row_known(5, {1}),
                "token known at 5, but only 1");
  expect_broken(StepForTest().row(999, 0, 1), "slot 999, which is empty");
}

TEST_F(Table, ids_out_of_range_are_refused) {
  expect_broken(StepForTest().arrive(0, {100}, {7}), "token 100 is not in the vocabulary of 100");
  expect_broken(StepForTest().arrive(0, {-1}, {7}), "token -1");
  expect_broken(StepForTest().arrive(0, {1}, {10}), "block 10 is not one of 10");
  expect_broken(StepForTest().arrive(kSlotsMax, {1}, {1}), "over the limit of 65536");
  expect_broken(StepForTest().arrive(0, {1}, {1}).row(0, 0, 1).row_blocks({-1}), "block -1");
}

TEST_F(Table, arrays_that_do_not_match_are_refused) {
  StepForTest step;
  step.arrive(0, {1}, {7}).row(0, 0, 1);
  step.input.row_flags.clear();
  expect_broken(step, "row arrays have 1 and 0 entries");
  StepForTest blocks;
  blocks.arrive(0, {1}, {7}).row(0, 0, 1);
  blocks.input.blocks = {1};
  expect_broken(blocks, "rows get 0 blocks, 1 are there");
  StepForTest known;
  known.arrive(0, {1}, {7}).row(0, 0, 1);
  known.input.row_known_count = {4'000'000'000};
  expect_broken(known, "rows know 4000000000 tokens, 0 are there");
  StepForTest prompt;
  prompt.arrive(0, {1}, {7});
  prompt.input.new_sequences[0].prompt_count = 2;
  expect_broken(prompt, "prompt of 2 tokens, but 1 tokens");
}

}  // namespace
}  // namespace trireme::worker
