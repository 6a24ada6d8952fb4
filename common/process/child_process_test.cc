// Goal: no child outlives its parent, none becomes a zombie, every end is said in words.
// Method: real processes; this program is also the parent that gets killed (see main()).
#include "common/process/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "common/process/death_pipe.h"
#include "common/process/sibling_binary.h"

namespace trireme::process {
namespace {

using std::chrono::seconds;

constexpr char kSelf[] = "/proc/self/exe";

ChildOptions shell(std::string script) { return {.argv = {"/bin/sh", "-c", std::move(script)}}; }

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  std::string read_line() {
    std::string line;
    for (char c = 0; ::read(read_end.get(), &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  UniqueFd read_end, write_end;
};

bool ends_within(int pidfd, Duration time) {
  pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(time / std::chrono::milliseconds(1))) == 1;
}

UniqueFd watch(pid_t pid) { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

// Starts this program as a parent in `role`, reads the pid it prints, and kills it.
void expect_that_no_descendant_survives(const std::string& role) {
  Pipe out;
  auto parent = ChildProcess::spawn({.argv = {kSelf, role}, .stdout_fd = out.write_end.get()});
  ASSERT_TRUE(parent.ok()) << parent.status();
  const std::string line = out.read_line();
  pid_t descendant = 0;
  std::from_chars(line.data(), line.data() + line.size(), descendant);
  ASSERT_GT(descendant, 1) << line;
  const UniqueFd pidfd = watch(descendant);
  ASSERT_FALSE(ends_within(pidfd.get(), Duration::zero()));
  parent->send_signal(SIGKILL);
  EXPECT_TRUE(ends_within(pidfd.get(), seconds(1)));
}

TEST(ChildProcess, exit_code_is_said) {
  auto child = ChildProcess::spawn(shell("exit 3"));
  ASSERT_TRUE(child.ok()) << child.status();
  const auto exit = child->wait(Deadline::after(seconds(10)));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->text(), "exit code 3");
}

TEST(ChildProcess, killing_signal_is_named) {
  auto child = ChildProcess::spawn(shell("kill -9 $$"));
  ASSERT_TRUE(child.ok()) << child.status();
  const auto exit = child->wait(Deadline::after(seconds(10)));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->text(), "killed by signal 9 (SIGKILL)");
}

TEST(ChildProcess, program_that_does_not_exist_is_an_error_of_spawn) {
  const auto child = ChildProcess::spawn({.argv = {"/does/not/exist"}});
  EXPECT_EQ(child.status().message(), "start /does/not/exist: No such file or directory");
}

TEST(ChildProcess, stop_kills_what_ignores_sigterm) {
  Pipe out;
  auto options = shell("trap '' TERM; echo ready; while :; do sleep 1; done");
  options.stdout_fd = out.write_end.get();
  auto child = ChildProcess::spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_EQ(out.read_line(), "ready");
  EXPECT_EQ(child->stop(Deadline::after(std::chrono::milliseconds(50))).signal, SIGKILL);
}

TEST(ChildProcess, stop_leaves_the_child_its_time) {
  Pipe out;
  auto options = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
  options.stdout_fd = out.write_end.get();
  auto child = ChildProcess::spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_EQ(out.read_line(), "ready");
  EXPECT_EQ(child->stop(Deadline::after(seconds(10))).code, 7);
}

TEST(ChildProcess, destruction_leaves_no_zombie) {
  pid_t pid = 0;
  {
    auto child = ChildProcess::spawn(shell("exec sleep 1000"));
    ASSERT_TRUE(child.ok()) << child.status();
    pid = child->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(ChildProcess, environment_is_ours_with_the_given_variables_over_it) {
  ::setenv("TRIREME_TEST_KEPT", "kept", 1);
  ::setenv("TRIREME_TEST_CHANGED", "old", 1);
  Pipe out;
  auto options = shell("echo $TRIREME_TEST_KEPT $TRIREME_TEST_CHANGED");
  options.env = {"TRIREME_TEST_CHANGED=new"};
  options.stdout_fd = out.write_end.get();
  auto child = ChildProcess::spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(out.read_line(), "kept new");
}

TEST(ChildProcess, only_named_descriptors_are_inherited) {
  Pipe given, kept, out;
  ASSERT_EQ(::fcntl(kept.write_end.get(), F_SETFD, 0), 0);  // A library that forgot O_CLOEXEC.
  auto options = shell(absl::StrFormat(
      "test -e /proc/self/fd/%d && echo -n given; test -e /proc/self/fd/%d && echo -n kept; echo",
      given.write_end.get(), kept.write_end.get()));
  options.inherited_fds = {given.write_end.get()};
  options.stdout_fd = out.write_end.get();
  auto child = ChildProcess::spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(out.read_line(), "given");
}

TEST(ChildProcess, child_survives_the_thread_that_started_it) {
  StatusOr<ChildProcess> child = absl::UnknownError("not started");
  std::jthread([&] { child = ChildProcess::spawn(shell("exec sleep 1000")); }).join();
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_FALSE(ends_within(child->pidfd(), std::chrono::milliseconds(50)));
}

TEST(ChildProcess, killed_parent_leaves_no_child) {
  expect_that_no_descendant_survives("starts-child");
}

TEST(ChildProcess, killed_parent_leaves_no_child_of_another_thread) {
  expect_that_no_descendant_survives("starts-child-on-thread");
}

TEST(ChildProcess, killed_parent_leaves_no_descendant_behind_a_foreign_launcher) {
  expect_that_no_descendant_survives("starts-launcher");
}

TEST(ChildProcess, killed_parent_takes_a_stopped_child_with_it) {
  expect_that_no_descendant_survives("starts-stopped-child");
}

TEST(SiblingBinary, missing_program_names_both_places) {
  const auto path = find_sibling_binary("no-such-program");
  EXPECT_EQ(path.status().code(), StatusCode::kNotFound);
  EXPECT_NE(path.status().message().find("/../bin/no-such-program"), std::string_view::npos);
}

TEST(SiblingBinary, program_beside_us_is_found) {
  EXPECT_TRUE(find_sibling_binary("child_process_test").ok());
}

[[noreturn]] void report_and_wait(pid_t pid) {
  std::printf("%d\n", pid);
  std::fflush(stdout);
  while (true) ::pause();
}

[[noreturn]] void run_role(std::string_view role) {
  if (role == "leaf") {
    if (!arm_inherited_death_pipe().ok()) std::_Exit(1);
    report_and_wait(::getpid());
  }
  if (role == "starts-launcher") {
    // setsid: out of the launcher's group and no child of ours.
    const auto launcher = ChildProcess::spawn(
        shell("/usr/bin/setsid --fork \"$TRIREME_TEST_SELF\" leaf; exec sleep 1000"));
    while (launcher.ok()) ::pause();
    std::_Exit(1);
  }
  StatusOr<ChildProcess> child = absl::UnknownError("not started");
  const auto start = [&] { child = ChildProcess::spawn({.argv = {"/bin/sleep", "1000"}}); };
  if (role == "starts-child-on-thread") {
    std::jthread(start).join();
  } else {
    start();
  }
  if (!child.ok()) std::_Exit(1);
  if (role == "starts-stopped-child") child->send_signal(SIGSTOP);
  report_and_wait(child->pid());
}

}  // namespace
}  // namespace trireme::process

int main(int argc, char** argv) {
  if (argc == 2 && argv[1][0] != '-') trireme::process::run_role(argv[1]);
  char self[4096] = {};
  if (::readlink("/proc/self/exe", self, sizeof(self) - 1) > 0) {
    ::setenv("TRIREME_TEST_SELF", self, 1);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
