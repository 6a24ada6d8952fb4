// Goal: who holds the cluster up stands first and in words, whatever its size.
// Method: clusters by hand, whole pages.
#include "cli/top/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace trireme::top {
namespace {

EngineFacts engine(uint32_t rank, std::string node) {
  EngineFacts engine{
      .place = {.index = rank, .node = std::move(node), .pid = 4711 + rank, .state = "ready"},
      .state_seconds = 7200};
  engine.load.emplace();
  engine.load->heard_seconds = 0.1;
  engine.load->tokens_per_second = 0;
  engine.load->wave = WaveFacts{.number = 12};
  return engine;
}

ClusterFacts cluster_of(uint32_t ranks) {
  ClusterFacts cluster{.version = "0.1.0", .epoch = 7, .is_coordinator_heard = true};
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    cluster.engines.push_back(engine(rank, rank < (ranks + 1) / 2 ? "a" : "b"));
  }
  cluster.front_ends = {{.index = 0, .node = "a", .pid = 9, .state = "ready"}};
  return cluster;
}

void stall(EngineFacts& engine, std::string phase, std::vector<uint32_t> awaits,
           uint32_t worker_pid = 0) {
  engine.load->stall = StallFacts{.phase = std::move(phase),
                                  .step = 881,
                                  .awaits_ranks = std::move(awaits),
                                  .worker_pid = worker_pid,
                                  .seconds = 3.25,
                                  .text = "as it says"};
}

std::string page(const ClusterFacts& cluster, PageSize size = {}) {
  return page_text(cluster, diagnose(cluster), "http://h:8000", size);
}

std::size_t line_count(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

TEST(TopPage, a_cluster_that_is_well_is_a_table) {
  ClusterFacts cluster = cluster_of(2);
  cluster.engines[0].load->running = 12;
  cluster.engines[0].load->waiting = 3;
  cluster.engines[0].load->kv_usage = 0.0625;
  cluster.engines[0].load->tokens_per_second = 310.04;
  cluster.engines[1].load->wave->is_asleep = true;
  EXPECT_TRUE(diagnose(cluster).is_well());
  EXPECT_EQ(page(cluster),
            "trireme 0.1.0 at http://h:8000: epoch 7, 2 nodes, 1 api-server\n"
            "2 engines, all well: 12 running, 3 waiting, 310.0 tokens/s\n"
            "\n"
            "NODE  RANK   PID  STATE  RUN  WAIT  KV%  TOK/S    WAVE  SINCE\n"
            "a        0  4711  ready   12     3  6.2  310.0      12    2 h\n"
            "b        1  4712  ready    0     0  0.0    0.0  asleep    2 h\n");
}

TEST(TopPage, who_is_stuck_stands_first_then_who_waits_for_it) {
  ClusterFacts cluster = cluster_of(4);
  stall(cluster.engines[0], "exchange", {3});
  stall(cluster.engines[2], "dispatch", {3});
  stall(cluster.engines[3], "attention", {}, 5000);
  EXPECT_FALSE(diagnose(cluster).is_well());
  EXPECT_EQ(page(cluster),
            "trireme 0.1.0 at http://h:8000: epoch 7, 2 nodes, 1 api-server\n"
            "4 engines, 3 NOT WELL: 0 running, 0 waiting, 0.0 tokens/s\n"
            "\n"
            "! rank 3 on node b (pid 4714) is held up by its worker (pid 5000), which stands in "
            "attention since 3.2 s: wave 12, step 881\n"
            "! rank 0 on node a (pid 4711) waits in exchange for rank 3 since 3.2 s: wave 12, step "
            "881\n"
            "! rank 2 on node b (pid 4713) waits in dispatch for rank 3 since 3.2 s: wave 12, step "
            "881\n"
            "\n"
            "NODE  RANK   PID  STATE  RUN  WAIT  KV%  TOK/S  WAVE  SINCE\n"
            "b        3  4714  stuck    0     0  0.0    0.0    12  3.2 s\n"
            "a        0  4711  waits    0     0  0.0    0.0    12  3.2 s\n"
            "b        2  4713  waits    0     0  0.0    0.0    12  3.2 s\n"
            "a        1  4712  ready    0     0  0.0    0.0    12    2 h\n");
}

// A rank whose process is stopped says nothing of itself: the others do.
TEST(TopPage, a_silent_rank_is_named_by_those_who_wait_for_it) {
  ClusterFacts cluster = cluster_of(3);
  stall(cluster.engines[0], "exchange", {1});
  stall(cluster.engines[2], "exchange", {1});
  cluster.engines[1].load->heard_seconds = 4;
  const std::string text = page(cluster);
  EXPECT_NE(text.find("\n! rank 1 on node a (pid 4712) is awaited by ranks 0 and 2; it was last "
                      "heard 4.0 s ago\n! rank 0"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("a        1  4712  awaited "), std::string::npos) << text;
}

TEST(TopPage, what_is_missing_is_told_with_the_reason) {
  ClusterFacts cluster = cluster_of(5);
  cluster.is_coordinator_heard = false;
  cluster.engines[1].place.state = "lost";
  cluster.engines[1].place.reason = "killed by signal 9 (SIGKILL)";
  cluster.engines[1].load.reset();
  cluster.engines[1].state_seconds = 2;
  cluster.engines[2] = {.place = {.index = 2, .state = "absent"}};
  cluster.engines[3].load.reset();
  cluster.engines[4].place.restarts = 2;
  cluster.engines[4].place.reason = "it \x1b[31mdied\xC2\x9B";
  cluster.node_agents = {{.index = 4, .node = "b", .pid = 5, .state = "lost", .reason = "left"}};
  EXPECT_FALSE(diagnose(cluster).is_well());
  const std::string text = page(cluster, {.rows = 40});
  for (const char* const line :
       {"! rank 1 on node a (pid 4712) is lost since 2.0 s: killed by signal 9 (SIGKILL)\n",
        "! rank 2 is absent: no process has come for it\n",
        "! rank 3 on node b (pid 4714) is ready, but not connected to the front end that was "
        "asked\n",
        "! the coordinator is silent: what is said of the view is old\n",
        "! node agent 4 on node b (pid 5) is lost: left\n",
        "  rank 4 was restarted 2 times; last: it ?[31mdied?\n",
        "-        2     -  absent     -     -    -      -     -      -\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST(TopPage, a_rank_of_another_node_that_is_served_there_is_no_trouble) {
  ClusterFacts cluster = cluster_of(2);
  cluster.engines[1].is_served = false;
  cluster.engines[1].load.reset();
  EXPECT_TRUE(diagnose(cluster).is_well());
}

TEST(TopPage, a_pause_and_a_drain_are_told_and_no_trouble) {
  ClusterFacts cluster = cluster_of(2);
  cluster.engines[0].load->paused = "keep";
  cluster.engines[1].place.state = "draining";
  EXPECT_TRUE(diagnose(cluster).is_well());
  const std::string text = page(cluster);
  EXPECT_NE(text.find("  rank 0 on node a (pid 4711) is paused, mode keep\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("4712  draining "), std::string::npos) << text;
}

TEST(TopPage, of_a_thousand_ranks_the_worst_are_shown_and_the_rest_counted) {
  ClusterFacts cluster = cluster_of(1024);
  for (EngineFacts& one : cluster.engines) stall(one, "exchange", {700});
  cluster.engines[700].load->stall.reset();
  const PageSize size{.columns = 80, .rows = 24};
  const std::string crowded = page(cluster, size);
  EXPECT_EQ(line_count(crowded), 24u) << crowded;
  EXPECT_NE(crowded.find("! rank 700 on node b (pid 5411) is awaited by ranks 0, 1, 2, 3, 4, 5, "
                         "6, 7 and 1\n"),
            std::string::npos)
      << crowded;
  EXPECT_NE(crowded.find("  ... and 1017 more\n"), std::string::npos) << crowded;
  EXPECT_NE(crowded.find("b      700  5411  awaited "), std::string::npos) << crowded;
  EXPECT_NE(crowded.find("of them not well\n"), std::string::npos) << crowded;
  std::istringstream lines(crowded);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;

  const std::string quiet = page(cluster_of(1024), size);
  EXPECT_EQ(line_count(quiet), 24u);
  EXPECT_TRUE(quiet.ends_with("... and 1005 more that are well\n")) << quiet;
}

TEST(TopPage, a_tiny_terminal_gets_the_worst_there_is_room_for) {
  ClusterFacts cluster = cluster_of(9);
  stall(cluster.engines[8], "sample", {}, 5000);
  for (std::size_t rows = 1; rows < 12; ++rows) {
    EXPECT_LE(line_count(page(cluster, {.columns = 10, .rows = rows})), rows);
  }
}

TEST(TopPage, letters_of_several_bytes_are_cut_whole_and_count_once) {
  ClusterFacts cluster = cluster_of(1);
  cluster.engines[0].place.node = "zürich-ñ";
  const std::string text = page(cluster, {.columns = 7, .rows = 24});
  EXPECT_NE(text.find("\nzürich-\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace trireme::top
