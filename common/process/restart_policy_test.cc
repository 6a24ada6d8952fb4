#include "common/process/restart_policy.h"

#include <gtest/gtest.h>

namespace trireme::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RestartPolicyTest : public testing::Test {
 protected:
  Duration wait_after_death() {
    policy_.on_exited(now_, "exit code 3");
    return *policy_.restart_at() - now_;
  }
  void restart() {
    now_ = *policy_.restart_at();
    policy_.on_started(now_);
  }

  Instant now_{seconds(1000)};
  RestartPolicy policy_{{.backoff_min = milliseconds(100),
                         .backoff_max = milliseconds(1000),
                         .healthy_after = seconds(60),
                         .restarts_max = 6}};
};

TEST_F(RestartPolicyTest, waits_double_up_to_the_bound) {
  policy_.on_started(now_);
  for (const int expected_ms : {100, 200, 400, 800, 1000, 1000}) {
    EXPECT_EQ(wait_after_death(), milliseconds(expected_ms));
    restart();
  }
  EXPECT_EQ(policy_.restarts_total(), 6);
}

TEST_F(RestartPolicyTest, healthy_time_begins_a_new_row) {
  policy_.on_started(now_);
  EXPECT_EQ(wait_after_death(), milliseconds(100));
  restart();
  EXPECT_EQ(wait_after_death(), milliseconds(200));
  restart();
  now_ += seconds(60);
  EXPECT_EQ(wait_after_death(), milliseconds(100));
}

TEST_F(RestartPolicyTest, is_due_only_once_the_wait_is_over) {
  policy_.on_started(now_);
  policy_.on_exited(now_, "exit code 1");
  EXPECT_FALSE(policy_.is_due(now_ + milliseconds(99)));
  EXPECT_TRUE(policy_.is_due(now_ + milliseconds(100)));
}

TEST_F(RestartPolicyTest, a_start_that_fails_counts_as_a_death) {
  policy_.on_started(now_);
  EXPECT_EQ(wait_after_death(), milliseconds(100));
  EXPECT_EQ(wait_after_death(), milliseconds(200));
}

TEST_F(RestartPolicyTest, gives_up_after_the_last_restart_and_keeps_the_reason) {
  policy_.on_started(now_);
  for (int i = 0; i < 6; ++i) {
    policy_.on_exited(now_, "exit code 1");
    restart();
  }
  policy_.on_exited(now_, "killed by signal 9 (SIGKILL)");
  EXPECT_EQ(policy_.state(), ChildState::kGivenUp);
  EXPECT_FALSE(policy_.restart_at());
  EXPECT_EQ(policy_.last_reason(), "killed by signal 9 (SIGKILL)");
}

TEST_F(RestartPolicyTest, a_stopped_child_is_not_restarted) {
  policy_.on_started(now_);
  policy_.on_stopped();
  policy_.on_exited(now_, "exit code 0");
  EXPECT_EQ(policy_.state(), ChildState::kStopped);
  EXPECT_FALSE(policy_.is_due(now_ + seconds(100)));
}

}  // namespace
}  // namespace trireme::process
