#include "api_server/engine_client/call_round.h"

#include <gtest/gtest.h>

namespace trireme::api {
namespace {

wire::UtilityReply yes(uint64_t id) { return {.call_id = id, .ok = true, .result = "true"}; }

TEST(CallRound, it_is_complete_when_all_have_answered) {
  CallRound round;
  EXPECT_FALSE(round.is_complete());
  round.add(0);
  round.add(3);
  EXPECT_EQ(round.due(), (std::vector<uint32_t>{0, 3}));
  round.sent(0, 1);
  round.sent(3, 2);
  EXPECT_TRUE(round.due().empty());
  EXPECT_TRUE(round.answer(0, yes(1)));
  EXPECT_FALSE(round.is_complete());
  EXPECT_TRUE(round.answer(3, yes(2)));
  EXPECT_TRUE(round.is_complete());
  EXPECT_TRUE(round.answers().are_all_true());
}

TEST(CallRound, an_answer_counts_once_and_for_what_was_asked_last) {
  CallRound round;
  round.add(0);
  EXPECT_FALSE(round.answer(0, yes(1)));
  round.sent(0, 1);
  EXPECT_FALSE(round.answer(1, yes(1)));
  round.add(0);  // It came back: the answer to the first connection's call is of no account.
  round.sent(0, 2);
  EXPECT_FALSE(round.answer(0, yes(1)));
  EXPECT_TRUE(round.answer(0, yes(2)));
  EXPECT_FALSE(round.answer(0, yes(2)));
}

TEST(CallRound, who_is_lost_is_left_out_and_who_comes_is_waited_for) {
  CallRound round;
  round.add(0);
  round.add(1);
  round.sent(0, 1);
  round.sent(1, 2);
  EXPECT_TRUE(round.answer(0, yes(1)));
  round.drop(1);
  EXPECT_TRUE(round.is_complete());
  round.add(1);
  EXPECT_FALSE(round.is_complete());
  round.drop(0);
  round.drop(1);
  EXPECT_FALSE(round.is_complete());  // Nobody has done it.
}

TEST(CallRound, answers_come_to_all_or_not_all_and_say_who_refuses) {
  CallAnswers answers;
  answers.put(0, yes(1));
  EXPECT_TRUE(answers.are_all_true());
  answers.put(1, {.call_id = 2, .ok = true, .result = "false"});
  EXPECT_TRUE(answers.are_all_ok());
  EXPECT_FALSE(answers.are_all_true());
  EXPECT_EQ(answers.refusals(), "");
  answers.put(2, {.call_id = 3, .ok = false, .result = "no"});
  answers.put(7, {.call_id = 4, .ok = false, .result = "never"});
  EXPECT_FALSE(answers.are_all_ok());
  EXPECT_EQ(answers.refusals(), "rank 2: no; rank 7: never");
}

TEST(CallRound, who_is_silent_is_named) {
  CallRound round;
  EXPECT_EQ(round.who_is_silent(), "no engine is ready");
  round.add(4);
  round.add(2);
  round.add(0);
  round.sent(0, 1);
  EXPECT_TRUE(round.answer(0, yes(1)));
  round.sent(4, 2);
  EXPECT_EQ(round.who_is_silent(), "ranks 2, 4 have not answered");
  round.drop(2);
  EXPECT_EQ(round.who_is_silent(), "rank 4 has not answered");
}

}  // namespace
}  // namespace trireme::api
