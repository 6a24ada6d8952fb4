#include "common/log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

namespace trireme {
namespace {

std::string written_by(const std::function<void()>& act) {
  // Read once, at the first line.
  ::setenv("TRIREME_LOG_FORMAT", "json", 1);
  ::setenv("TRIREME_LOG_LEVEL", "info", 1);
  ::testing::internal::CaptureStderr();
  act();
  return ::testing::internal::GetCapturedStderr();
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Log, worker_is_named_by_its_data_parallel_rank_and_its_number_there) {
  log::start("worker", 3, 1);
  const std::string line = written_by([] { log::info("x"); });
  EXPECT_TRUE(contains(line, R"("process":"worker")")) << line;
  EXPECT_TRUE(contains(line, R"("rank":3,"worker":1,"event":"x")")) << line;
}

TEST(Log, process_without_a_rank_names_none) {
  log::start("api-server");
  const std::string line = written_by([] { log::info("x"); });
  EXPECT_FALSE(contains(line, "rank")) << line;
  EXPECT_FALSE(contains(line, "worker")) << line;
}

TEST(Log, what_is_told_to_people_is_an_event_with_a_text) {
  const std::string line = written_by([] { log::tell("load", "Engine 000: idle"); });
  EXPECT_TRUE(contains(line, R"("event":"load","text":"Engine 000: idle"})")) << line;
}

}  // namespace
}  // namespace trireme
