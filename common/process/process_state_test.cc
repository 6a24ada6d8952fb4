#include "common/process/process_state.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace trireme::process {
namespace {

TEST(ProcessState, letter_and_time_are_found_behind_any_name) {
  const auto state =
      parse_process_state("4711 (a ) T (b) T 1 2 3 4 5 6 7 8 9 10 11 22 100 101 20 0 1");
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(*state, (ProcessState{'T', 33}));
  EXPECT_TRUE(state->is_stopped());
}

TEST(ProcessState, what_is_no_stat_file_gives_nothing) {
  for (const char* const text : {"", "4711", "4711 (x)", "4711 (x) S 1 2 3", ") S"}) {
    EXPECT_FALSE(parse_process_state(text).has_value()) << text;
  }
}

TEST(ProcessState, own_process_runs_and_one_that_cannot_be_is_not_there) {
  const auto own = read_process_state(static_cast<uint32_t>(::getpid()));
  ASSERT_TRUE(own.has_value());
  EXPECT_FALSE(own->is_stopped());
  EXPECT_FALSE(read_process_state(UINT32_MAX).has_value());
}

}  // namespace
}  // namespace trireme::process
