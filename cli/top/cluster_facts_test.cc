// Goal: an answer of GET /cluster is read field by field; what is missing is left at its default,
// and what is no such answer is refused.
#include "cli/top/cluster_facts.h"

#include <gtest/gtest.h>

namespace trireme::top {
namespace {

TEST(ClusterFacts, every_field_is_read) {
  const auto cluster = read_cluster(
      R"({"version":"0.1.0","epoch":7,"coordinator_heard":true,"draining":true,"engines":[)"
      R"({"rank":3,"node":"b","pid":4711,"state":"ready","restarts":2,"reason":"why",)"
      R"("worker_pids":[1],"state_seconds":12.5,"served":true,"connected":true,)"
      R"("heard_seconds":0.25,"running":2,"waiting":1,"kv_usage":0.25,"prefix_hit_rate":0.4,)"
      R"("tokens_per_second":300,"step":9,"wave":{"number":12,"asleep":true},"paused":"keep",)"
      R"("stall":{"phase":"dispatch","epoch":4,"step":881,"awaits_ranks":[5,6],)"
      R"("worker_pid":77,"seconds":3.5,"text":"t"}}],)"
      R"("front_ends":[{"index":1,"node":"a","pid":9,"state":"lost","restarts":1,"reason":"r"}],)"
      R"("node_agents":[{"index":0,"node":"a","pid":8,"state":"ready"}]})");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->version, "0.1.0");
  EXPECT_EQ(cluster->epoch, 7u);
  EXPECT_TRUE(cluster->is_coordinator_heard && cluster->is_draining);
  ASSERT_EQ(cluster->engines.size(), 1u);
  const EngineFacts& engine = cluster->engines[0];
  EXPECT_EQ(engine.place.index, 3u);
  EXPECT_EQ(engine.place.node, "b");
  EXPECT_EQ(engine.place.pid, 4711u);
  EXPECT_EQ(engine.place.restarts, 2u);
  EXPECT_EQ(engine.place.reason, "why");
  EXPECT_EQ(engine.state_seconds, 12.5);
  ASSERT_TRUE(engine.load.has_value());
  EXPECT_EQ(engine.load->heard_seconds, 0.25);
  EXPECT_EQ(engine.load->running, 2u);
  EXPECT_EQ(engine.load->waiting, 1u);
  EXPECT_EQ(engine.load->tokens_per_second, 300.0);
  EXPECT_EQ(engine.load->paused, "keep");
  ASSERT_TRUE(engine.load->wave && engine.load->wave->is_asleep);
  EXPECT_EQ(engine.load->wave->number, 12u);
  ASSERT_TRUE(engine.load->stall.has_value());
  EXPECT_EQ(engine.load->stall->phase, "dispatch");
  EXPECT_EQ(engine.load->stall->step, 881u);
  EXPECT_EQ(engine.load->stall->awaits_ranks, (std::vector<uint32_t>{5, 6}));
  EXPECT_EQ(engine.load->stall->worker_pid, 77u);
  EXPECT_EQ(engine.load->stall->seconds, 3.5);
  EXPECT_EQ(engine.load->stall->text, "t");
  ASSERT_EQ(cluster->front_ends.size(), 1u);
  EXPECT_EQ(cluster->front_ends[0].state, "lost");
  EXPECT_EQ(cluster->node_agents.size(), 1u);
}

TEST(ClusterFacts, nulls_and_fields_that_are_missing_or_odd_are_left_out) {
  const auto cluster = read_cluster(
      R"({"epoch":"x","engines":[{"rank":0,"state":"ready","pid":-4,"connected":true,)"
      R"("heard_seconds":null,"tokens_per_second":null,"wave":null,"stall":null},7,)"
      R"({"rank":1,"state":"absent","state_seconds":null,"served":false,"connected":false}]})");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->epoch, 0u);
  ASSERT_EQ(cluster->engines.size(), 2u);
  const EngineFacts& here = cluster->engines[0];
  EXPECT_EQ(here.place.pid, 0u);
  ASSERT_TRUE(here.load.has_value());
  EXPECT_FALSE(here.load->heard_seconds || here.load->tokens_per_second || here.load->wave ||
               here.load->stall);
  EXPECT_FALSE(cluster->engines[1].load || cluster->engines[1].is_served);
}

TEST(ClusterFacts, another_answer_is_refused_and_shown_in_part) {
  for (const std::string& text : {std::string("<html>"), std::string("[]"), std::string("{}"),
                                  std::string(R"({"engines":3})"), std::string()}) {
    EXPECT_EQ(read_cluster(text).status().code(), StatusCode::kFailedPrecondition) << text;
  }
  EXPECT_LT(read_cluster(std::string(5000, 'x')).status().message().size(), 200u);
}

}  // namespace
}  // namespace trireme::top
