// Tests of the sign of life between a parent's page and a child's hand, in one process.
#include "common/process/pulse.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace trireme::process {
namespace {

void give(int fd) { ::setenv(kPulseVariable, std::to_string(::dup(fd)).c_str(), 1); }

TEST(Pulse, the_parent_sees_the_beats_and_a_new_life_begins_without_any) {
  auto page = PulsePage::create();
  ASSERT_TRUE(page.ok());
  give(page->fd());
  const auto pulse = Pulse::take_inherited();
  ASSERT_TRUE(pulse.ok());
  EXPECT_EQ(page->beats(), 0u);
  pulse->beat();
  pulse->beat();
  EXPECT_EQ(page->beats(), 2u);
  EXPECT_EQ(pulse->due_at(Instant{}), Instant{} + kPulseInterval);
  page->clear();
  EXPECT_EQ(page->beats(), 0u);
}

TEST(Pulse, it_is_taken_out_of_the_environment) {
  auto page = PulsePage::create();
  ASSERT_TRUE(page.ok());
  give(page->fd());
  ASSERT_TRUE(Pulse::take_inherited().ok());
  EXPECT_EQ(std::getenv(kPulseVariable), nullptr);
}

TEST(Pulse, without_a_watching_parent_it_beats_nowhere_and_is_never_due) {
  ::unsetenv(kPulseVariable);
  const auto pulse = Pulse::take_inherited();
  ASSERT_TRUE(pulse.ok());
  pulse->beat();
  EXPECT_EQ(pulse->due_at(Instant{}), Instant::max());
}

TEST(Pulse, what_is_no_page_of_ours_is_refused_by_name) {
  for (const char* const given : {"soon", "-1", "70000"}) {
    ::setenv(kPulseVariable, given, 1);
    const auto pulse = Pulse::take_inherited();
    ASSERT_FALSE(pulse.ok()) << given;
    EXPECT_NE(pulse.status().message().find(std::string("TRIREME_PULSE=") + given),
              std::string::npos);
  }
}

}  // namespace
}  // namespace trireme::process
