// Tests of the marked line in which a process tells its parent why it ended.
#include "common/process/last_word.h"

#include <gtest/gtest.h>

namespace trireme::process {
namespace {

TEST(LastWord, a_status_survives_the_line) {
  const Status status = error(StatusCode::kDataLoss, "m.safetensors: two\nlines \"quoted\"");
  const auto read = read_marked_line(marked_line(status));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, error(StatusCode::kDataLoss, "m.safetensors: two lines \"quoted\""));
}

TEST(LastWord, any_other_line_is_not_one) {
  for (const char* const line : {"", "failed 5 x", "{\"event\":\"failed\"}",
                                 "\x1e"
                                 "failed x",
                                 "\x1e"
                                 "failed 0 fine",
                                 "\x1e"
                                 "failed 99 x"}) {
    EXPECT_FALSE(read_marked_line(line)) << line;
  }
}

TEST(LastWord, what_the_later_word_repeats_is_said_once) {
  const Status worker = error(StatusCode::kInternal, "no config.json");
  const Status repeats = error(StatusCode::kNotFound, "worker rank 0: no config.json");
  const Status differs = error(StatusCode::kUnavailable, "worker rank 0: exit code 1");
  EXPECT_EQ(join_last_words(worker, repeats), repeats);
  EXPECT_EQ(join_last_words({}, differs), differs);
  EXPECT_EQ(join_last_words(worker, differs),
            error(StatusCode::kUnavailable, "worker rank 0: exit code 1 (before: no config.json)"));
}

}  // namespace
}  // namespace trireme::process
