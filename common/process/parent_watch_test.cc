// Goal: a process whose launcher is killed ends too.
#include "common/process/parent_watch.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace trireme::process {
namespace {

TEST(ParentWatch, kill_of_the_parent_kills_the_child) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    if (::fork() == 0) {
      ::close(ends[0]);
      const bool is_watching = end_with_parent().ok();
      if (::write(ends[1], is_watching ? "w" : "x", 1) != 1) ::_exit(1);
      while (true) ::pause();
    }
    ::close(ends[1]);
    while (true) ::pause();
  }
  ::close(ends[1]);
  char word = 0;
  ASSERT_EQ(::read(ends[0], &word, 1), 1);
  EXPECT_EQ(word, 'w');
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  // The child holds the last write end.
  pollfd entry{.fd = ends[0], .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&entry, 1, 20'000), 1);
  EXPECT_EQ(::read(ends[0], &word, 1), 0);
  ::close(ends[0]);
}

}  // namespace
}  // namespace trireme::process
