// Goal: main loops that step together, without sockets or processes: the test is the coordinator
// and the front ends, the executors are sim, and time is the test's.
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <memory>

#include "engine_core/engine_loop.h"
#include "engine_core/executor/sim.h"
#include "engine_core/lockstep/record_table.h"

namespace trireme::engine {
namespace {

constexpr FrontEndId kFront{0};

// The records of all ranks, in this process.
class SharedRecords final : public StepExchange {
 public:
  SharedRecords(uint32_t rank, RecordTable& table)
      : rank_(rank), table_(table), fd_(*Bell::open_eventfd()) {}

  void post(const StepRecord& record, std::span<const uint32_t>) override {
    table_.put(rank_, record);
  }
  [[nodiscard]] std::optional<StepSummary> gather(WaveId wave, uint64_t step,
                                                  std::span<const uint32_t> ranks) override {
    return table_.gather(wave, step, ranks);
  }
  [[nodiscard]] std::vector<uint32_t> missing(WaveId wave, uint64_t step,
                                              std::span<const uint32_t> ranks) override {
    std::vector<uint32_t> found;
    for (const uint32_t rank : ranks) {
      if (table_.find(rank, wave, step) == nullptr) found.push_back(rank);
    }
    return found;
  }
  [[nodiscard]] int fd() const override { return fd_.get(); }
  void about_to_wait() override {}
  void woke_up() override {}

 private:
  uint32_t rank_;
  RecordTable& table_;
  UniqueFd fd_;
};

// Sim, but with the group's calls written down, and steps that can be broken off.
class WatchedExecutor final : public Executor {
 public:
  WatchedExecutor() : sim_(options(), {.base_us = 1000, .prefill_us = 0, .decode_us = 0}) {}

  static ServeOptions options() {
    ServeOptions options;
    options.scheduler.block_count = 64;
    options.model.model_tokens_max = 256;
    return options;
  }

  [[nodiscard]] StatusOr<KvCapacity> start(Bell& bell, StopSignal& stop) override {
    return sim_.start(bell, stop);
  }
  [[nodiscard]] Status submit(const wire::StepInput& step, Instant now) override {
    kinds.push_back(step.kind);
    is_broken_ = false;
    if (step.kind != wire::StepKind::kAgain) return sim_.submit(kept_ = step, now);
    return sim_.submit(kept_, now);
  }
  [[nodiscard]] Status join_wave(const wire::JoinWave& wave) override {
    joined.push_back(wave);
    return absl::OkStatus();
  }
  void abandon_waves(WaveId below) override {
    abandoned_below = below;
    is_broken_ = true;
  }
  [[nodiscard]] StatusOr<bool> try_collect(wire::StepResult& result, Instant now) override {
    if (is_stuck && !is_broken_) return false;
    TRIREME_ASSIGN_OR_RETURN(const bool is_there, sim_.try_collect(result, now));
    result.is_abandoned = is_there && std::exchange(is_broken_, false);
    if (result.is_abandoned) is_stuck = false;
    return is_there;
  }
  [[nodiscard]] Status release_memory() override {
    releases_at.push_back(kinds.size());
    return absl::OkStatus();
  }
  [[nodiscard]] uint32_t steps_in_flight_max() const override { return 1; }
  [[nodiscard]] Instant next_result_at() const override { return sim_.next_result_at(); }
  [[nodiscard]] LateStep watch_step(StepId, Instant) override { return late; }
  void end_watch() override { ++watches_ended; }
  void kill_worker(uint32_t rank) noexcept override { killed.push_back(rank); }
  void stop() noexcept override {}

  LateStep late;
  int watches_ended = 0;
  std::vector<uint32_t> killed;
  std::vector<wire::StepKind> kinds;
  std::vector<wire::JoinWave> joined;
  WaveId abandoned_below;
  std::vector<std::size_t> releases_at;  // After so many steps.
  bool is_stuck = false;                 // A rank is missing in the step's collectives.

 private:
  SimExecutor sim_;
  wire::StepInput kept_;
  bool is_broken_ = false;
};

struct Rank {
  Rank(uint32_t rank, RecordTable& table)
      : channel(*EngineChannel::create()),
        scheduler(config()),
        loop({.engine = EngineId{rank}, .incarnation = Incarnation{rank + 1}}, scheduler, executor,
             *channel,
             std::make_unique<LockstepGroup>(EngineId{rank},
                                             std::make_unique<SharedRecords>(rank, table))) {
    push(FrontEndJoined{kFront, 1});
  }
  static SchedulerConfig config() {
    SchedulerConfig config;
    config.model_tokens_max = 256;
    config.kv.block_count = 64;
    config.steps_in_flight_max = 1;
    return config;
  }
  template <typename Event>
  void push(Event event) {
    InputEvent input(std::in_place_type<Event>, std::move(event));
    ASSERT_TRUE(channel->input.push(std::move(input)));
  }
  void add(uint64_t key, uint32_t output_tokens) {
    RequestAdded added{kFront, {}};
    added.request.key = RequestKey{key};
    added.request.prompt_token_ids = {5, 6, 7};
    added.request.sampling.output_tokens_max = output_tokens;
    push(std::move(added));
  }
  void call(wire::UtilityMethod method, const char* argument = "") {
    push(UtilityCalled{kFront, {1, method, argument, ++calls}});
  }
  void take_outputs() {
    while (auto message = channel->output.pop()) {
      if ((*message)->reply) {
        ++replies;
        last_reply = *(*message)->reply;
      } else {
        told = (*message)->outputs.stats.standing;
      }
      for (const auto& output : (*message)->outputs.outputs) {
        tokens += static_cast<int>(output.token_ids.size());
        finish = output.finish_reason;
      }
    }
    while (const auto next = channel->standings.pop()) standing = *next;
  }

  std::unique_ptr<EngineChannel> channel;
  WatchedExecutor executor;
  Scheduler scheduler;
  EngineLoop loop;
  int tokens = 0;
  int replies = 0;
  wire::UtilityReply last_reply;
  uint64_t calls = 0;
  wire::FinishReason finish{};
  WaveStanding standing;
  wire::EngineStanding told;  // To the front ends.
};

class EngineLoopGroupTest : public testing::Test {
 protected:
  EngineLoopGroupTest() {
    for (uint32_t i = 0; i < 2; ++i) ranks_.push_back(std::make_unique<Rank>(i, table_));
    turns(2);
  }

  // A millisecond each: about one step of the sim.
  void turns(int count) {
    for (int i = 0; i < count; ++i) {
      now_ += std::chrono::milliseconds(1);
      for (const auto& rank : ranks_) {
        for (int twice = 0; twice < 2; ++twice) rank->loop.do_work(now_);
      }
      for (const auto& rank : ranks_) rank->take_outputs();
    }
  }
  void start_wave(uint64_t wave, std::vector<uint32_t> ranks, uint64_t abandon_below = 0) {
    for (const uint32_t rank : ranks) {
      ranks_[rank]->push(WaveStarted{
          {.wave = WaveId{wave}, .ranks = ranks, .abandon_below = WaveId{abandon_below}}});
    }
  }
  [[nodiscard]] static int count(const Rank& rank, wire::StepKind kind) {
    return static_cast<int>(
        std::count(rank.executor.kinds.begin(), rank.executor.kinds.end(), kind));
  }

  RecordTable table_{2};
  std::vector<std::unique_ptr<Rank>> ranks_;
  Instant now_{std::chrono::hours(1)};
};

TEST_F(EngineLoopGroupTest, work_waits_for_a_wave_and_asks_for_one) {
  ranks_[0]->add(7, 5);
  turns(5);
  EXPECT_EQ(ranks_[0]->tokens, 0);
  EXPECT_EQ(ranks_[0]->standing, (WaveStanding{wire::WaveEventKind::kStart, WaveId{0}}));
}

TEST_F(EngineLoopGroupTest, work_that_no_wave_comes_for_is_told_of_until_one_does) {
  ranks_[0]->add(7, 5);
  turns(900);
  EXPECT_FALSE(ranks_[0]->told.stall.has_value());
  turns(200);
  ASSERT_TRUE(ranks_[0]->told.stall.has_value());
  EXPECT_EQ(ranks_[0]->told.stall->phase, wire::StallPhase::kQueue);
  EXPECT_FALSE(ranks_[1]->told.stall.has_value());
  start_wave(1, {0, 1});
  turns(20);
  EXPECT_EQ(ranks_[0]->tokens, 5);
  EXPECT_FALSE(ranks_[0]->told.stall.has_value());
}

TEST_F(EngineLoopGroupTest, a_wave_ends_on_the_step_that_finishes_its_last_request) {
  ranks_[0]->add(7, 5);
  start_wave(1, {0, 1});
  turns(20);
  EXPECT_EQ(ranks_[0]->tokens, 5);
  EXPECT_EQ(count(*ranks_[0], wire::StepKind::kRun), 5);
  EXPECT_EQ(count(*ranks_[0], wire::StepKind::kDummy), 0);
  EXPECT_EQ(count(*ranks_[1], wire::StepKind::kDummy), 5) << "one for each, and none after them";
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->standing, (WaveStanding{wire::WaveEventKind::kComplete, WaveId{1}}));
    ASSERT_EQ(rank->executor.joined.size(), 1u);
    EXPECT_EQ(rank->executor.joined[0], (wire::JoinWave{WaveId{1}, {0, 1}}));
  }
}

TEST_F(EngineLoopGroupTest, a_step_without_one_of_its_ranks_is_run_again_without_it) {
  ranks_[0]->add(7, 5);
  start_wave(1, {0, 1});
  ranks_[0]->executor.is_stuck = true;
  turns(10);
  EXPECT_EQ(ranks_[0]->tokens, 0);
  start_wave(2, {0}, /*abandon_below=*/2);
  turns(10);
  EXPECT_EQ(ranks_[0]->executor.abandoned_below, WaveId{2});
  EXPECT_EQ(count(*ranks_[0], wire::StepKind::kAgain), 1);
  EXPECT_EQ(ranks_[0]->tokens, 5);
  EXPECT_EQ(ranks_[0]->executor.joined.back(), (wire::JoinWave{WaveId{2}, {0}}));
}

TEST_F(EngineLoopGroupTest, it_tells_whom_it_waits_for_in_an_agreement_and_in_a_step) {
  ranks_[0]->add(7, 5);
  ranks_[0]->push(WaveStarted{{.wave = WaveId{1}, .ranks = {0, 1}}});
  turns(900);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{});
  turns(500);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{1});
  ranks_[0]->executor.is_stuck = true;
  ranks_[1]->push(WaveStarted{{.wave = WaveId{1}, .ranks = {0, 1}}});
  turns(10);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{}) << "it has come";
  ranks_[0]->executor.late.awaits = {1};
  turns(500);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{1});
  start_wave(2, {0}, /*abandon_below=*/2);
  turns(10);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{});
}

// What it said last may still lie in its queues: to the others that looks like a cut link.
TEST_F(EngineLoopGroupTest,
       who_waits_for_records_while_its_own_worker_is_stopped_blames_nobody_else) {
  ranks_[0]->add(7, 20);
  start_wave(1, {0, 1});
  turns(5);
  ranks_[1]->executor.is_stuck = true;
  turns(1500);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{1});
  LateStep& late = ranks_[0]->executor.late;
  late = {.text = "worker tp0 is stopped",
          .behind = 0,
          .still = std::chrono::milliseconds(1200),
          .facts = {.phase = wire::StallPhase::kQueue, .worker_pid = 4711}};
  testing::internal::CaptureStderr();
  turns(300);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find(R"("worker_pid":4711,"seconds":1.2,)"), std::string::npos) << log;
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{});
  ASSERT_TRUE(ranks_[0]->told.stall.has_value());
  EXPECT_EQ(ranks_[0]->told.stall->worker_pid, 4711u);
  EXPECT_EQ(ranks_[0]->told.stall->awaited_ranks, std::vector<uint32_t>{});
  turns(3000);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{});
  late.motionless = std::chrono::seconds(60);
  turns(300);
  EXPECT_TRUE(ranks_[0]->loop.is_over());
  EXPECT_EQ(ranks_[0]->executor.killed, std::vector<uint32_t>{0});
}

TEST_F(EngineLoopGroupTest, a_worker_that_goes_on_in_time_while_records_are_awaited_is_forgotten) {
  ranks_[0]->add(7, 20);
  start_wave(1, {0, 1});
  turns(5);
  ranks_[1]->executor.is_stuck = true;
  ranks_[0]->executor.late = {.behind = 0, .still = std::chrono::seconds(2)};
  turns(1500);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{});
  ranks_[0]->executor.late = {};
  turns(500);
  EXPECT_EQ(ranks_[0]->standing.awaits, std::vector<uint32_t>{1});
  ranks_[1]->executor.is_stuck = false;
  turns(600);
  EXPECT_EQ(ranks_[0]->tokens, 20);
  EXPECT_EQ(ranks_[0]->told, wire::EngineStanding{.stepping = wire::Stepping::kAsleep});
  EXPECT_GT(ranks_[0]->executor.watches_ended, 0);
}

TEST_F(EngineLoopGroupTest, the_log_names_who_is_awaited_with_the_node) {
  ranks_[0]->add(7, 5);
  for (const auto& rank : ranks_) {
    rank->push(
        WaveStarted{{.wave = WaveId{1}, .epoch = Epoch{12}, .ranks = {0, 1}}, {"left", "right"}});
  }
  turns(2);
  ranks_[0]->executor.is_stuck = true;
  ranks_[0]->executor.late.facts = {.phase = wire::StallPhase::kDispatch, .awaited_ranks = {1}};
  testing::internal::CaptureStderr();
  turns(5100);
  const std::string log = testing::internal::GetCapturedStderr();
  for (const std::string_view words :
       {R"("phase":"exchange","awaits_ranks":"0","awaits_nodes":"left")",
        R"("event":"step_slow","node")", R"("epoch":12,"wave":1,)",
        R"("phase":"dispatch","awaits_ranks":"1","awaits_nodes":"right")"}) {
    EXPECT_NE(log.find(words), std::string::npos) << words << log;
  }
}

TEST_F(EngineLoopGroupTest, a_pause_of_one_rank_holds_for_all_from_the_same_step_on) {
  ranks_[0]->add(7, 20);
  ranks_[1]->add(8, 20);
  start_wave(1, {0, 1});
  turns(5);
  ranks_[1]->call(wire::UtilityMethod::kPause, "keep");
  turns(30);
  EXPECT_EQ(ranks_[1]->replies, 1);
  EXPECT_LT(ranks_[0]->tokens, 20);
  EXPECT_EQ(ranks_[0]->tokens, ranks_[1]->tokens);
  EXPECT_EQ(ranks_[0]->standing.event, wire::WaveEventKind::kComplete) << "all sleep";
  ranks_[0]->calls = 1;
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kResume);
  turns(2);
  EXPECT_EQ(ranks_[0]->standing.event, wire::WaveEventKind::kStart);
  start_wave(2, {0, 1});
  turns(30);
  EXPECT_EQ(ranks_[0]->tokens, 20);
  EXPECT_EQ(ranks_[1]->tokens, 20);
}

// Nothing else happens in that turn, nor after it.
TEST_F(EngineLoopGroupTest, a_pause_that_holds_with_the_end_of_a_wave_is_answered_at_once) {
  ranks_[0]->push(WaveStarted{{.wave = WaveId{1}, .ranks = {0, 1}}});
  turns(500);
  ranks_[0]->call(wire::UtilityMethod::kPause, "keep");
  turns(500);
  EXPECT_EQ(ranks_[0]->replies, 0) << "it is in a wave whose other rank has not come";
  ranks_[1]->push(WaveStarted{{.wave = WaveId{1}, .ranks = {0, 1}}});
  turns(2);
  EXPECT_EQ(ranks_[0]->standing.event, wire::WaveEventKind::kStart) << "not agreed";
  EXPECT_EQ(ranks_[0]->replies, 1);
}

TEST_F(EngineLoopGroupTest, an_aborting_pause_ends_what_runs_on_every_rank) {
  ranks_[0]->add(7, 20);
  start_wave(1, {0, 1});
  turns(5);
  ranks_[1]->call(wire::UtilityMethod::kPause, "abort");
  turns(10);
  EXPECT_EQ(ranks_[0]->finish, wire::FinishReason::kAbort);
  ranks_[0]->add(8, 5);
  turns(5);
  EXPECT_EQ(ranks_[0]->finish, wire::FinishReason::kError) << "refused";
}

TEST_F(EngineLoopGroupTest, all_sleep_when_all_have_agreed_and_none_before) {
  ranks_[0]->add(7, 20);
  start_wave(1, {0, 1});
  turns(5);
  ranks_[0]->executor.is_stuck = true;
  turns(5);
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kSleep, "keep");
  turns(5);
  EXPECT_TRUE(ranks_[0]->executor.releases_at.empty()) << "its step has not ended";
  EXPECT_TRUE(ranks_[1]->executor.releases_at.empty()) << "nor has it agreed with the other";
  ranks_[0]->executor.is_stuck = false;
  turns(10);
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->executor.releases_at, std::vector<std::size_t>{rank->executor.kinds.size()});
    EXPECT_EQ(rank->replies, 1);
    EXPECT_EQ(rank->standing.event, wire::WaveEventKind::kComplete);
  }
  EXPECT_LT(ranks_[0]->tokens, 20);
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kResume);
  turns(2);
  start_wave(2, {0, 1});
  turns(60);
  EXPECT_EQ(ranks_[0]->tokens, 20);
}

// The one that ends its own requests first still computes for the other.
TEST_F(EngineLoopGroupTest, a_rank_that_sleeps_steps_with_one_that_waits_for_its_requests) {
  ranks_[0]->add(7, 20);
  start_wave(1, {0, 1});
  turns(3);
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kSleep, "wait");
  turns(5);
  EXPECT_EQ(ranks_[1]->executor.releases_at.size(), 1u);
  EXPECT_EQ(ranks_[1]->replies, 1);
  EXPECT_EQ(ranks_[0]->replies, 0);
  turns(40);
  EXPECT_EQ(ranks_[0]->tokens, 20);
  EXPECT_EQ(ranks_[0]->replies, 1);
  EXPECT_EQ(count(*ranks_[1], wire::StepKind::kDummy), 20);
}

TEST_F(EngineLoopGroupTest, a_request_during_a_kept_pause_wakes_nobody) {
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kPause, "keep");
  turns(2);
  start_wave(1, {0, 1});
  turns(2);
  ranks_[0]->add(7, 5);
  turns(5);
  EXPECT_EQ(ranks_[0]->standing.event, wire::WaveEventKind::kComplete);
}

// Each front end asks the ranks of its node.
TEST_F(EngineLoopGroupTest,
       a_pause_of_one_rank_that_sleeps_reaches_the_others_by_a_wave_without_steps) {
  ranks_[0]->call(wire::UtilityMethod::kPause, "keep");
  turns(2);
  EXPECT_EQ(ranks_[0]->standing.event, wire::WaveEventKind::kStart);
  start_wave(1, {0, 1});
  turns(5);
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->told.pause, wire::HeldPause::kKeep);
    EXPECT_EQ(rank->standing.event, wire::WaveEventKind::kComplete);
    EXPECT_EQ(count(*rank, wire::StepKind::kDummy), 0);
  }
}

TEST_F(EngineLoopGroupTest, a_resume_that_is_older_than_the_pause_that_holds_is_answered_so) {
  ranks_[1]->calls = 9;
  ranks_[1]->call(wire::UtilityMethod::kPause, "keep");
  start_wave(1, {0, 1});
  turns(5);
  ranks_[0]->call(wire::UtilityMethod::kResume);
  turns(2);
  EXPECT_EQ(ranks_[0]->replies, 1);
  EXPECT_FALSE(ranks_[0]->last_reply.ok);
  EXPECT_EQ(ranks_[0]->last_reply.overruled_by, 10u);
  EXPECT_EQ(ranks_[0]->told.pause, wire::HeldPause::kKeep);
}

TEST_F(EngineLoopGroupTest, front_ends_are_told_of_a_wave_and_of_who_waits_in_it_until_it_is_over) {
  ranks_[0]->add(7, 5);
  ranks_[0]->executor.is_stuck = true;
  start_wave(1, {0, 1});
  turns(1100);
  EXPECT_EQ(ranks_[1]->told.stepping, wire::Stepping::kInWave);
  ASSERT_TRUE(ranks_[1]->told.stall.has_value());
  EXPECT_EQ(ranks_[1]->told.stall->phase, wire::StallPhase::kExchange);
  EXPECT_EQ(ranks_[1]->told.stall->step, 2u);
  EXPECT_GE(ranks_[1]->told.stall->milliseconds, 1000u);
  turns(5000);
  ASSERT_TRUE(ranks_[0]->told.stall.has_value());
  EXPECT_EQ(ranks_[0]->told.stall->step, 1u);
  ranks_[0]->executor.is_stuck = false;
  turns(600);
  for (const auto& rank : ranks_) {
    EXPECT_EQ(rank->told, wire::EngineStanding{.stepping = wire::Stepping::kAsleep});
  }
}

TEST_F(EngineLoopGroupTest, a_rank_that_drains_ends_its_requests_and_goes_out_between_two_steps) {
  ranks_[0]->add(7, 5);
  ranks_[1]->add(8, 100);
  start_wave(1, {0, 1});
  turns(3);
  ranks_[0]->loop.begin_drain(now_);
  turns(20);
  EXPECT_EQ(ranks_[0]->tokens, 5);
  EXPECT_EQ(ranks_[0]->standing, (WaveStanding{wire::WaveEventKind::kLeaving, WaveId{1}}));
  for (const auto& rank : ranks_) {
    rank->push(WaveStarted{{.wave = WaveId{2}, .ranks = {1}}});
  }
  turns(3);
  EXPECT_EQ(ranks_[0]->standing, (WaveStanding{wire::WaveEventKind::kLeaving, WaveId{2}}));
  EXPECT_EQ(ranks_[1]->standing, (WaveStanding{wire::WaveEventKind::kRunning, WaveId{2}}));
  turns(400);
  EXPECT_FALSE(ranks_[0]->loop.is_over()) << "rank 1 might still look for its last record";
  turns(200);
  EXPECT_TRUE(ranks_[0]->loop.is_over());
  EXPECT_EQ(ranks_[1]->tokens, 100);
  EXPECT_EQ(count(*ranks_[1], wire::StepKind::kAgain), 0);
}

TEST_F(EngineLoopGroupTest, a_rank_that_drains_and_ends_the_wave_with_its_last_request_goes_soon) {
  ranks_[0]->add(7, 5);
  start_wave(1, {0, 1});
  turns(3);
  ranks_[0]->loop.begin_drain(now_);
  turns(400);
  EXPECT_EQ(ranks_[0]->tokens, 5);
  EXPECT_FALSE(ranks_[0]->loop.is_over());
  turns(200);
  EXPECT_TRUE(ranks_[0]->loop.is_over());
}

// A coordinator tells it of all waves while it stays.
TEST_F(EngineLoopGroupTest, waves_of_others_do_not_keep_a_rank_that_is_out) {
  ranks_[1]->add(8, 100);
  start_wave(1, {0, 1});
  turns(3);
  ranks_[0]->loop.begin_drain(now_);
  for (uint64_t wave = 2; wave < 8; ++wave) {
    for (const auto& rank : ranks_) rank->push(WaveStarted{{.wave = WaveId{wave}, .ranks = {1}}});
    turns(100);
  }
  EXPECT_TRUE(ranks_[0]->loop.is_over());
}

TEST_F(EngineLoopGroupTest, a_rank_that_sleeps_and_is_to_drain_goes_at_once) {
  ranks_[0]->loop.begin_drain(now_);
  turns(1);
  EXPECT_TRUE(ranks_[0]->loop.is_over());
}

TEST_F(EngineLoopGroupTest, a_rank_that_nobody_lets_out_of_its_wave_goes_when_its_time_is_over) {
  ranks_[1]->add(8, 200);
  start_wave(1, {0, 1});
  turns(3);
  ranks_[1]->executor.is_stuck = true;
  ranks_[0]->loop.begin_drain(now_);
  turns(29'000);
  EXPECT_FALSE(ranks_[0]->loop.is_over());
  turns(1'100);
  EXPECT_TRUE(ranks_[0]->loop.is_over());
}

TEST_F(EngineLoopGroupTest, front_ends_are_told_of_a_pause_that_holds) {
  for (const auto& rank : ranks_) rank->call(wire::UtilityMethod::kPause, "keep");
  turns(20);
  EXPECT_EQ(ranks_[1]->told.pause, wire::HeldPause::kKeep);
}

}  // namespace
}  // namespace trireme::engine
