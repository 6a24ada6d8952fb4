// Goal: a step's result is there when the last worker has answered, with the output rank's tokens
// and what any worker lost, in whatever order the answers come.
#include "engine_core/executor/result_gathering.h"

#include <gtest/gtest.h>

namespace trireme::engine {
namespace {

wire::StepResult result(uint64_t step, int32_t token, std::vector<uint32_t> lost = {},
                        uint32_t failed = 0) {
  wire::StepResult made{.step = StepId{step}, .row_token = {token}};
  made.lost_slots = std::move(lost);
  made.failed_load_count = failed;
  return made;
}

TEST(ResultGathering, is_whole_with_the_last_answer_and_knows_what_any_worker_lost) {
  ResultGathering gathering(3, 1);
  EXPECT_FALSE(*gathering.take(1, result(1, 42, {4})));
  EXPECT_FALSE(*gathering.take(1, result(2, 43)));
  EXPECT_FALSE(*gathering.take(0, result(1, wire::kNoToken, {4, 2}, 1)));
  EXPECT_FALSE(*gathering.take(0, result(2, wire::kNoToken)));
  EXPECT_EQ(**gathering.take(2, result(1, wire::kNoToken, {9}, 1)), result(1, 42, {2, 4, 9}, 2));
  EXPECT_EQ(**gathering.take(2, result(2, wire::kNoToken)), result(2, 43));
  EXPECT_FALSE(*gathering.take(2, result(3, wire::kNoToken)));
}

TEST(ResultGathering, a_worker_out_of_step_is_an_error) {
  ResultGathering gathering(2, 0);
  EXPECT_FALSE(*gathering.take(0, result(1, 42)));
  EXPECT_EQ(gathering.take(1, result(2, 0)).status().code(), StatusCode::kDataLoss);
}

TEST(ResultGathering, a_worker_far_ahead_is_an_error) {
  ResultGathering gathering(2, 0);
  uint64_t step = 1;
  while (step < 1000 && gathering.take(0, result(step, 1)).ok()) ++step;
  EXPECT_EQ(step, 65u);
}

}  // namespace
}  // namespace trireme::engine
