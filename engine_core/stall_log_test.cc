// Goal: the line about a step that is held up says who waits, in what, for whom and where those
// are.
#include "engine_core/stall_log.h"

#include <gtest/gtest.h>

#include "common/host_name.h"

namespace trireme::engine {
namespace {

std::string logged(const StallLine& line) {
  testing::internal::CaptureStderr();
  log_stall(line);
  return testing::internal::GetCapturedStderr();
}

TEST(StallLog, who_is_awaited_is_named_with_the_node_where_it_is_known) {
  const std::string text =
      logged({.event = "step_slow",
              .wave = WaveId{5},
              .stall = {.phase = wire::StallPhase::kDispatch,
                        .epoch = Epoch{12},
                        .step = 881,
                        .awaited_ranks = {3, 9},
                        .milliseconds = 2250},
              .text = "tp0 is in layer 3",
              .node_of = [](uint32_t rank) { return std::string(rank == 3 ? "b" : ""); }});
  const std::string rest = "\"event\":\"step_slow\",\"node\":\"" + host_name() +
                           "\",\"epoch\":12,\"wave\":5,\"step\":881,\"phase\":\"dispatch\","
                           "\"awaits_ranks\":\"3,9\",\"awaits_nodes\":\"b,?\",\"worker_pid\":0,"
                           "\"seconds\":2.25,\"text\":\"tp0 is in layer 3\"}\n";
  EXPECT_TRUE(text.ends_with(rest)) << text;
}

TEST(StallLog, a_rank_alone_names_its_own_worker) {
  const std::string text =
      logged({.event = "step_slow",
              .wave = WaveId{},
              .stall = {.phase = wire::StallPhase::kMlp, .step = 7, .worker_pid = 4711},
              .text = ""});
  EXPECT_NE(text.find("\"epoch\":0,\"wave\":0,\"step\":7,\"phase\":\"mlp\",\"awaits_ranks\":\"\","
                      "\"awaits_nodes\":\"\",\"worker_pid\":4711,"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace trireme::engine
