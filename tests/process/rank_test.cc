// A whole rank (main loop, I/O thread, sim executor) between a real coordinator and a front end
// that this test plays, over real sockets. Goal: it finds its front ends through the view, serves,
// survives garbage, aborts, and drains when told to stop.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <thread>

#include "common/random.h"
#include "common/zmq/context.h"
#include "common/zmq/router.h"
#include "coordinator/coordinator_loop.h"
#include "engine_core/rank_main.h"
#include "proto/member/cluster_context.h"
#include "proto/member/member_link.h"
#include "proto/messages.h"

namespace trireme {
namespace {

constexpr Duration kPatience = std::chrono::seconds(20);

ServeOptions base_options() {
  ServeOptions options;
  options.parallel.data_parallel_rpc_port = 0;
  options.parallel.executor = Executor::kSim;
  options.parallel.headless = true;
  options.worker.sim_profile = "base_us=500,prefill_us=1,decode_us=1";
  options.cluster.lease_milliseconds = 1000;
  options.server.shutdown_timeout_seconds = 10;
  return options;
}

// The coordinator and a front end, turned by the test's thread; the rank has its own threads.
class RankTest : public testing::Test {
 protected:
  explicit RankTest(const ServeOptions& options = base_options(),
                    std::vector<std::string> worker_command_line = {})
      : options_(options), worker_command_line_(std::move(worker_command_line)) {}

  void SetUp() override {
    context_ = *member::make_cluster_context(options_);
    coordinator_ = *coordinator::CoordinatorLoop::create(*context_, options_);
    const std::string& endpoint = coordinator_->endpoint();
    options_.parallel.data_parallel_rpc_port =
        static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
    router_.emplace(*zmq::Router::create(*context_));
    ASSERT_TRUE(router_->bind("tcp://127.0.0.1:0").ok());
    link_.emplace(*member::MemberLink::open(*context_, options_,
                                            {.role = wire::Role::kApiServer,
                                             .incarnation = Incarnation{entropy64()},
                                             .config = member::cluster_config(options_)}));
    link_->set_ready({.addresses = {router_->last_endpoint()}});
    stop_.emplace(*StopSignal::install());
    rank_ =
        std::thread([this] { end_ = engine::run_rank(options_, worker_command_line_, *stop_); });
    ASSERT_TRUE(turn_until([this] { return !peer_.empty(); })) << "EngineReady has not come";
  }
  void TearDown() override {
    stop_->raise();
    stop_->raise();
    if (rank_.joinable()) rank_.join();
  }

  template <typename Condition>
  bool turn_until(const Condition& condition) {
    const Deadline deadline = Deadline::after(kPatience);
    while (!condition()) {
      if (deadline.has_passed()) return false;
      coordinator_->turn(Deadline::after(std::chrono::milliseconds(1)));
      link_->do_work(now(), true);
      while (link_->next_event()) {
      }
      while (router_->try_receive(message_)) take(message_);
    }
    return true;
  }

  void take(const zmq::Message& message) {
    peer_ = message.peer();
    const auto outputs = wire::unpack<wire::EngineOutputs>(message.frame(0));
    if (!outputs.ok()) {
      ready_ = *wire::unpack<wire::EngineReady>(message.frame(0));
      return;
    }
    load_ = *outputs;
    for (const auto& output : outputs->outputs) {
      cached_[output.key.value] += output.cached_prompt_tokens;
      auto& tokens = tokens_[output.key.value];
      tokens.insert(tokens.end(), output.token_ids.begin(), output.token_ids.end());
      if (output.finish_reason != wire::FinishReason::kNone) ends_[output.key.value] = output;
    }
  }

  template <typename Message>
  void send(const Message& message) {
    wire::Buffer bytes;
    wire::pack(message, bytes);
    ASSERT_EQ(router_->try_send(peer_, zmq::Bytes(bytes)), zmq::SendResult::kSent);
  }
  void add(uint64_t key, uint32_t output_tokens) {
    wire::AddRequest request;
    request.key = RequestKey{key};
    request.prompt_token_ids = {5, 6, 7, static_cast<int32_t>(key)};
    request.sampling.seed = key;
    request.sampling.output_tokens_max = output_tokens;
    send(request);
  }

  ServeOptions options_;
  std::vector<std::string> worker_command_line_;
  std::unique_ptr<zmq::Context> context_;
  std::unique_ptr<coordinator::CoordinatorLoop> coordinator_;
  std::optional<zmq::Router> router_;
  std::optional<member::MemberLink> link_;
  std::optional<StopSignal> stop_;
  std::thread rank_;
  Status end_;
  zmq::Message message_;
  std::string peer_;
  wire::EngineReady ready_;
  wire::EngineOutputs load_;
  std::map<uint64_t, std::vector<int32_t>> tokens_;
  std::map<uint64_t, uint32_t> cached_;
  std::map<uint64_t, wire::EngineOutput> ends_;
};

TEST_F(RankTest, serves_many_requests_the_same_alone_and_in_company) {
  add(1000, 32);
  ASSERT_TRUE(turn_until([this] { return ends_.contains(1000); }));
  for (uint64_t key = 0; key < 100; ++key) add(key, 32);
  add(1001, 32);
  ASSERT_TRUE(turn_until([this] { return ends_.size() == 102; }));
  for (const auto& [key, tokens] : tokens_) EXPECT_EQ(tokens.size(), 32u) << key;
  ASSERT_TRUE(turn_until([this] { return load_.stats.running == 0; })) << "the last load is idle";
  EXPECT_EQ(load_.requests_received, 102u);
  EXPECT_EQ(load_.incarnation, ready_.incarnation);
  const auto& view = link_->view();
  EXPECT_TRUE(std::ranges::any_of(view.members, [](const wire::Member& member) {
    return member.role == wire::Role::kEngine && member.state == wire::MemberState::kReady;
  }));
}

// A real worker on a thread of the rank.
class ModelRankTest : public RankTest {
 protected:
  static ServeOptions model_options() {
    ServeOptions options = base_options();
    options.model.model = "models/demo";
    options.parallel.executor = Executor::kUni;
    options.scheduler.block_count = 256;
    return options;
  }
  explicit ModelRankTest(const ServeOptions& options = model_options(),
                         std::vector<std::string> worker_command_line = {})
      : RankTest(options, std::move(worker_command_line)) {}

  void add_long(uint64_t key, uint64_t prompt) {
    wire::AddRequest request;
    request.key = RequestKey{key};
    for (int32_t i = 0; i < 70; ++i) {
      request.prompt_token_ids.push_back(10 + (i * 7 + static_cast<int32_t>(prompt) * 31) % 200);
    }
    request.sampling.temperature = 0.8F;
    request.sampling.seed = 42;
    request.sampling.ignore_eos = true;
    request.sampling.output_tokens_max = 24;
    send(request);
  }
};

TEST_F(ModelRankTest, tokens_do_not_depend_on_company_or_on_the_prefix_cache) {
  add_long(1, 0);
  ASSERT_TRUE(turn_until([this] { return ends_.contains(1); }));
  EXPECT_EQ(tokens_[1].size(), 24u);
  EXPECT_EQ(cached_[1], 0u);
  for (uint64_t key = 2; key < 12; ++key) add_long(key, key % 3);
  ASSERT_TRUE(turn_until([this] { return ends_.size() == 11; }));
  for (const uint64_t key : {3, 6, 9}) {
    EXPECT_EQ(tokens_[key], tokens_[1]) << key;
    EXPECT_EQ(cached_[key], 64u) << key;
  }
  EXPECT_NE(tokens_[2], tokens_[1]);
}

// A worker process for each of two TP ranks of two stages.
class WorkersRankTest : public ModelRankTest {
 protected:
  static ServeOptions workers_options() {
    ServeOptions options = model_options();
    options.parallel.executor = Executor::kMp;
    options.parallel.tensor_parallel_size = 2;
    options.parallel.pipeline_parallel_size = 2;
    return options;
  }
  WorkersRankTest()
      : ModelRankTest(workers_options(), {"models/demo", "--tensor-parallel-size", "2",
                                          "--pipeline-parallel-size", "2"}) {}
};

TEST_F(WorkersRankTest, four_workers_give_every_request_its_tokens) {
  for (uint64_t key = 1; key < 12; ++key) add_long(key, key % 3);
  ASSERT_TRUE(turn_until([this] { return ends_.size() == 11; }));
  for (const uint64_t key : {4, 7, 10}) EXPECT_EQ(tokens_[key], tokens_[1]) << key;
  EXPECT_EQ(tokens_[1].size(), 24u);
}

TEST_F(WorkersRankTest, a_dead_worker_ends_the_rank_at_once_and_names_itself) {
  add(1, 2000);
  ASSERT_TRUE(turn_until([this] { return !tokens_[1].empty(); }));
  std::vector<uint32_t> pids;
  ASSERT_TRUE(turn_until([&] {
    for (const auto& member : link_->view().members) {
      if (member.role == wire::Role::kEngine) pids = member.ready.worker_pids;
    }
    return pids.size() == 4;
  }));
  ASSERT_GT(pids[1], 1u);  // kill(0) and kill(-1) are more than one process.
  ASSERT_EQ(::kill(static_cast<pid_t>(pids[1]), SIGKILL), 0);
  ASSERT_TRUE(turn_until([this] { return ends_.contains(1); }));
  EXPECT_EQ(ends_[1].error_code, static_cast<uint8_t>(StatusCode::kUnavailable));
  rank_.join();
  EXPECT_EQ(std::string(end_.message()),
            "worker rank 1 (pid " + std::to_string(pids[1]) + "): killed by signal 9 (SIGKILL)");
}

TEST_F(RankTest, garbage_and_aborts_disturb_nobody_else) {
  add(1, 2000);
  ASSERT_EQ(router_->try_send(peer_, zmq::bytes_of("garbage")), zmq::SendResult::kSent);
  send(wire::KeepAlive{});
  add(2, 20);
  send(wire::AbortRequests{{RequestKey{1}, RequestKey{77}}});
  ASSERT_TRUE(turn_until([this] { return ends_.contains(2); }));
  EXPECT_EQ(tokens_[2].size(), 20u);
  EXPECT_FALSE(ends_.contains(1));
  ASSERT_TRUE(turn_until([this] { return load_.stats.running == 0; }));
}

TEST_F(RankTest, an_idle_rank_keeps_its_place_in_the_view) {
  const Deadline three_leases = Deadline::after(std::chrono::seconds(3));
  ASSERT_TRUE(turn_until([&] { return three_leases.has_passed(); }));
  add(1, 4);
  ASSERT_TRUE(turn_until([this] { return ends_.contains(1); }));
}

TEST_F(RankTest, told_to_stop_it_finishes_what_it_has_and_refuses_what_comes) {
  add(1, 600);
  ASSERT_TRUE(turn_until([this] { return !tokens_[1].empty(); }));
  stop_->raise();
  ASSERT_TRUE(turn_until([this] {
    const auto& members = link_->view().members;
    return std::ranges::any_of(members, [](const wire::Member& member) {
      return member.role == wire::Role::kEngine && member.state == wire::MemberState::kDraining;
    });
  }));
  add(2, 5);
  ASSERT_TRUE(turn_until([this] { return ends_.contains(1) && ends_.contains(2); }));
  EXPECT_EQ(ends_[1].finish_reason, wire::FinishReason::kLength);
  EXPECT_EQ(tokens_[1].size(), 600u);
  EXPECT_EQ(ends_[2].error_code, static_cast<uint8_t>(StatusCode::kUnavailable));
  rank_.join();
  EXPECT_TRUE(end_.ok()) << end_;
}

}  // namespace
}  // namespace trireme
