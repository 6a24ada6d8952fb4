#include "common/signals.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>

namespace trireme {
namespace {

TEST(StopSignal, first_signal_drains_and_second_forces) {
  auto stop = StopSignal::install();
  ASSERT_TRUE(stop.ok()) << stop.status();
  EXPECT_EQ(stop->update(), StopSignal::Level::kRun);
  std::raise(SIGTERM);
  pollfd entry{stop->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 1000), 1);
  EXPECT_EQ(stop->update(), StopSignal::Level::kDrain);
  std::raise(SIGINT);
  EXPECT_EQ(stop->update(), StopSignal::Level::kForce);
}

}  // namespace
}  // namespace trireme
