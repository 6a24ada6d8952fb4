// Goal: the answer of GET /cluster says of every engine where it stands, and invents nothing.
// Method: views, messages and times by hand.
#include "api_server/cluster_page.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>

namespace trireme::api {
namespace {

using std::chrono::milliseconds;

class NoTransport final : public EngineTransport {
 public:
  TransportResult send(std::string_view, const wire::Buffer&) override {
    return TransportResult::kSent;
  }
};

struct Fixture {
  explicit Fixture(EngineClientOptions options = {.engine_count = 2}) : client(options, transport) {
    client.tick(now);
  }
  template <typename Message>
  void receive(uint32_t rank, const Message& message) {
    wire::Buffer buffer;
    wire::pack(message, buffer);
    client.on_message(std::to_string(rank), buffer);
  }
  void ready(uint32_t rank) {
    receive(rank, wire::EngineReady{.engine = EngineId{rank},
                                    .incarnation = Incarnation{10 + rank},
                                    .block_count = 100,
                                    .connection = 1});
  }
  void say(uint32_t rank, const wire::EngineStats& stats) {
    receive(rank, wire::EngineOutputs{.engine = EngineId{rank},
                                      .incarnation = Incarnation{10 + rank},
                                      .stats = stats,
                                      .connection = 1,
                                      .sequence = ++sequences[rank]});
  }
  static wire::Member member(wire::Role role, uint32_t index, wire::MemberState state) {
    return {.role = role,
            .index = index,
            .incarnation = Incarnation{10 + index},
            .state = state,
            .node = "a",
            .pid = 4711 + index};
  }
  void pass(Duration time) { client.tick(now += time); }
  [[nodiscard]] std::string page() const { return render_cluster(client, "0", now); }
  [[nodiscard]] bool has(std::string_view part) const {
    return page().find(part) != std::string::npos;
  }

  NoTransport transport;
  EngineClient client;
  Instant now{std::chrono::hours(1)};
  std::map<uint32_t, uint64_t> sequences;
};

TEST(ClusterPage, before_anything_is_heard_every_engine_is_absent) {
  Fixture f({.engine_count = 1});
  EXPECT_EQ(f.page(), R"({"version":"0","epoch":0,"coordinator_heard":false,"draining":false,)"
                      R"("engines":[{"rank":0,"state":"absent","state_seconds":null,)"
                      R"("served":true,"connected":false}],"front_ends":[],"node_agents":[]})");
}

TEST(ClusterPage, says_of_an_engine_what_the_view_and_it_itself_say) {
  Fixture f({.engine_count = 1});
  wire::Member engine = f.member(wire::Role::kEngine, 0, wire::MemberState::kReady);
  engine.ready.worker_pids = {5000, 5001};
  engine.restarts = 2;
  engine.reason = "killed by \"me\"";
  wire::Member front = f.member(wire::Role::kApiServer, 3, wire::MemberState::kReady);
  front.ready.http_address = "0.0.0.0:8000";
  f.client.set_coordinator_heard(true);
  f.client.on_view(
      {.epoch = Epoch{7},
       .members = {engine, front, f.member(wire::Role::kNodeAgent, 0, wire::MemberState::kLost)}});
  f.ready(0);
  f.pass(milliseconds(500));
  wire::EngineStats stats{.waiting = 1, .running = 2, .kv_usage = 0.25F, .step = StepId{9}};
  stats.prefix_query_tokens = 10;
  stats.prefix_hit_tokens = 4;
  stats.wave = WaveId{wave_base(1700000000000).value + 12};
  stats.standing.stepping = wire::Stepping::kInWave;
  stats.standing.pause = wire::HeldPause::kKeep;
  f.say(0, stats);
  f.pass(milliseconds(250));
  EXPECT_EQ(f.page(),
            R"({"version":"0","epoch":7,"coordinator_heard":true,"draining":false,"engines":[)"
            R"({"rank":0,"node":"a","pid":4711,"state":"ready","restarts":2,)"
            R"("reason":"killed by \"me\"","worker_pids":[5000,5001],"state_seconds":0.750,)"
            R"("served":true,"connected":true,"heard_seconds":0.250,"running":2,"waiting":1,)"
            R"("kv_usage":0.250,"prefix_hit_rate":0.400,"tokens_per_second":null,"step":9,)"
            R"("wave":{"number":12,"asleep":false},"paused":"keep","stall":null}],)"
            R"("front_ends":[{"index":3,"node":"a","pid":4714,"state":"ready","restarts":0,)"
            R"("reason":"","address":"0.0.0.0:8000"}],)"
            R"("node_agents":[{"index":0,"node":"a","pid":4711,"state":"lost","restarts":0,)"
            R"("reason":""}]})");
}

TEST(ClusterPage, a_stall_says_who_is_awaited_and_grows_older_until_it_is_over) {
  Fixture f;
  f.ready(0);
  wire::EngineStats stats{.step = StepId{9}, .stall = "no record"};
  stats.standing = {.stepping = wire::Stepping::kInWave,
                    .stall = wire::Stall{.phase = wire::StallPhase::kDispatch,
                                         .epoch = Epoch{4},
                                         .step = 881,
                                         .awaited_ranks = {3, 5},
                                         .milliseconds = 2000}};
  f.say(0, stats);
  f.pass(milliseconds(1500));
  EXPECT_TRUE(f.has(R"("stall":{"phase":"dispatch","epoch":4,"step":881,"awaits_ranks":[3,5],)"
                    R"("worker_pid":null,"seconds":3.500,"text":"no record"})"))
      << f.page();
  f.say(0, stats);  // The same again is no newer.
  f.pass(milliseconds(500));
  EXPECT_TRUE(f.has(R"("seconds":4.000)")) << f.page();
  stats.standing.stall->worker_pid = 77;
  stats.standing.stall->milliseconds = 4000;
  f.say(0, stats);
  EXPECT_TRUE(f.has(R"("worker_pid":77,"seconds":4.000)")) << f.page();
  stats.standing.stall->phase = wire::StallPhase::kLoadExperts;
  f.say(0, stats);
  EXPECT_TRUE(f.has(R"("stall":{"phase":"load experts",)")) << f.page();
  stats.standing.stall.reset();
  f.say(0, stats);
  EXPECT_TRUE(f.has(R"("stall":null)")) << f.page();
}

TEST(ClusterPage, tokens_per_second_are_those_of_the_last_second) {
  Fixture f;
  f.ready(0);
  f.say(0, {.step = StepId{1}, .generation_tokens = 1'000'000});
  EXPECT_TRUE(f.has(R"("tokens_per_second":null)")) << "what it did before is not counted";
  f.pass(milliseconds(1000));
  f.say(0, {.step = StepId{2}, .generation_tokens = 1'000'300});
  f.pass(milliseconds(1000));
  EXPECT_TRUE(f.has(R"("tokens_per_second":300.000)")) << f.page();
  f.pass(milliseconds(1000));
  EXPECT_TRUE(f.has(R"("tokens_per_second":0.000)")) << f.page();
}

TEST(ClusterPage, an_engine_of_another_node_is_known_by_the_view_alone) {
  Fixture f({.engine_count = 2, .served_first = 1, .served_count = 1});
  f.client.on_view({.epoch = Epoch{1},
                    .members = {f.member(wire::Role::kEngine, 0, wire::MemberState::kReady)}});
  EXPECT_TRUE(f.has(R"("state_seconds":null,"served":false,"connected":false})")) << f.page();
}

TEST(ClusterPage, what_a_lost_engine_said_last_is_not_shown) {
  Fixture f;
  f.client.on_view({.epoch = Epoch{1},
                    .members = {f.member(wire::Role::kEngine, 0, wire::MemberState::kReady)}});
  f.ready(0);
  f.say(0, {.running = 5});
  EXPECT_TRUE(f.has(R"("running":5)"));
  f.client.on_view(
      {.epoch = Epoch{2}, .members = {f.member(wire::Role::kEngine, 0, wire::MemberState::kLost)}});
  EXPECT_TRUE(f.has(R"("state":"lost")")) << f.page();
  EXPECT_FALSE(f.has("running"));
}

TEST(ClusterPage, figures_that_are_no_numbers_do_not_break_it) {
  Fixture f;
  f.ready(0);
  f.say(0, {.kv_usage = std::numeric_limits<float>::quiet_NaN()});
  EXPECT_TRUE(f.has(R"("kv_usage":0.000)")) << f.page();
}

}  // namespace
}  // namespace trireme::api
