#include "common/process/stack_report.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace trireme::process {
namespace {

// A child that waits for a signal, under a name.
class StackReport : public testing::Test {
 protected:
  void SetUp() override {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::pthread_setname_np(::pthread_self(), "stands-still");
      (void)!::write(ready[1], "x", 1);
      while (true) ::pause();
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  void TearDown() override {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

  pid_t child_ = 0;
};

TEST_F(StackReport, names_threads_and_where_they_are) {
  ::kill(child_, SIGSTOP);
  ASSERT_EQ(::waitpid(child_, nullptr, WUNTRACED), child_);
  const std::string text = describe_stacks(static_cast<uint32_t>(child_));
  EXPECT_NE(text.find("stands-still: state T"), std::string::npos) << text;
  EXPECT_NE(text.find("libc.so"), std::string::npos) << text;
  EXPECT_NE(text.find("stack_report_test+0x"), std::string::npos) << text;
}

TEST_F(StackReport, is_kept_in_a_file) {
  const auto path = keep_stacks(static_cast<uint32_t>(child_));
  ASSERT_TRUE(path.ok()) << path.status();
  std::ifstream file(*path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(text.find("stands-still"), std::string::npos);
  std::filesystem::remove(*path);
}

TEST(StackReportOfNobody, is_an_error) {
  EXPECT_EQ(describe_stacks(0x7FFF'FFFF), "");
  EXPECT_EQ(keep_stacks(0x7FFF'FFFF).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme::process
