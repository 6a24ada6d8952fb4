// Tests of the supervisor with real children (/bin/sh).
#include "common/process/supervisor.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <string>

namespace trireme::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SupervisorTest : public testing::Test {
 protected:
  std::size_t add(const std::string& script, Supervisor::Limits limits = {}) {
    return supervisor_->add("child", {.argv = {"/bin/sh", "-c", script}}, limits);
  }
  // The next death, or nothing within 10 s.
  std::optional<Death> death() {
    const Deadline deadline = Deadline::after(seconds(10));
    while (deaths_.empty() && !deadline.has_passed()) turn();
    if (deaths_.empty()) return std::nullopt;
    Death first = deaths_.front();
    deaths_.erase(deaths_.begin());
    return first;
  }
  void turn() {
    pollfd entry{.fd = supervisor_->fd(), .events = POLLIN, .revents = 0};
    const Instant until = std::min(supervisor_->wakeup(), now() + milliseconds(200));
    const auto left = std::chrono::ceil<milliseconds>(until - now()).count();
    if (until > now()) ::poll(&entry, 1, static_cast<int>(left));
    for (Death& one : supervisor_->tick(now())) deaths_.push_back(std::move(one));
  }

  StatusOr<Supervisor> supervisor_ = Supervisor::create({.backoff_min = milliseconds(5)});
  std::vector<Death> deaths_;
};

TEST_F(SupervisorTest, a_child_that_dies_is_started_again) {
  add("exit 3");
  const auto first = death(), second = death();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->reason, "exit code 3");
  EXPECT_EQ(first->deaths_in_a_row, 1u);
  EXPECT_EQ(first->restart_in, milliseconds(5));
  EXPECT_EQ(second->deaths_in_a_row, 2u);
  EXPECT_EQ(second->restarts, 2u);
  EXPECT_NE(first->pid, second->pid);
}

TEST_F(SupervisorTest, a_child_may_have_a_shorter_wait_than_the_others) {
  add("exit 3", {.backoff_max = milliseconds(7)});
  const auto first = death(), second = death(), third = death();
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(first->restart_in, milliseconds(5));
  EXPECT_EQ(second->restart_in, milliseconds(7));
  EXPECT_EQ(third->restart_in, milliseconds(7));
}

TEST_F(SupervisorTest, its_last_word_is_its_reason_and_is_not_passed_on) {
  add("echo one >&2; printf '\\036failed 5 no model\\n' >&2; echo bye >&2; exit 1");
  testing::internal::CaptureStderr();
  const auto first = death();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "one\nbye\n");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->reason, "no model");
  EXPECT_TRUE(first->is_for_a_person);
}

TEST_F(SupervisorTest, each_life_has_its_own_last_word) {
  add("printf '\\036failed 14 busy\\n' >&2; exit 1");
  for (int life = 0; life < 2; ++life) {
    const auto one = death();
    ASSERT_TRUE(one);
    EXPECT_EQ(one->reason, "busy");
    EXPECT_FALSE(one->is_for_a_person);
  }
}

TEST_F(SupervisorTest, a_stopped_child_stays_away) {
  const std::size_t child = add("exec sleep 1000");
  turn();
  ASSERT_TRUE(supervisor_->is_running(child));
  supervisor_->stop(child, SIGTERM);
  EXPECT_FALSE(death()->restart_in);
  EXPECT_EQ(supervisor_->running_count(), 0u);
  EXPECT_EQ(supervisor_->wakeup(), Instant::max());
}

TEST_F(SupervisorTest, a_program_that_cannot_be_started_is_a_death) {
  supervisor_->add("ghost", {.argv = {"/does/not/exist"}});
  const auto first = death();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->pid, -1);
  EXPECT_EQ(first->reason, "start /does/not/exist: No such file or directory");
}

TEST_F(SupervisorTest, a_child_that_writes_more_than_the_pipe_holds_does_not_wait_for_us) {
  // Its exit is seen though nobody reads what it wrote: tick() is not called meanwhile.
  add("head -c 3000000 /dev/zero | tr '\\0' x >&2 2>/dev/null; exit 4");
  turn();
  const pid_t pid = supervisor_->pid(0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(info.si_status, 4);
}

// The time is ours: no second is waited for.
TEST_F(SupervisorTest, a_child_that_is_stopped_for_too_long_is_killed_named_and_started_again) {
  supervisor_->expect_pulse(seconds(60));
  add("exec sleep 1000", {.silence_max = seconds(10)});
  turn();
  const pid_t pid = supervisor_->pid(0);
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT), 0);
  const Instant start = now();
  for (int second = 0; second <= 12; ++second) {
    for (Death& one : supervisor_->tick(start + seconds(second))) deaths_.push_back(std::move(one));
  }
  const auto first = death();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->pid, pid);
  EXPECT_EQ(first->status.signal, SIGKILL);
  const std::string why =
      "killed, as its main loop made no turn for 10.0 s (process state T, stopped); its stacks: ";
  ASSERT_TRUE(first->reason.starts_with(why)) << first->reason;
  EXPECT_TRUE(std::filesystem::remove(first->reason.substr(why.size())));
  EXPECT_TRUE(first->restart_in);
}

TEST_F(SupervisorTest, a_child_that_was_told_to_stop_is_not_watched) {
  supervisor_->expect_pulse(seconds(10));
  add("trap '' TERM; kill -STOP $$");
  turn();
  supervisor_->stop(0, SIGTERM);
  EXPECT_EQ(supervisor_->wakeup(), Instant::max());
}

}  // namespace
}  // namespace trireme::process
