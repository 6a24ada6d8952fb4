// Goal: a step that does not end, or a call between steps that is not answered, is looked at, told
// of and ended, without a worker killed that still has time. Method: an executor that never
// answers, and time is the test's.
#include <gtest/gtest.h>

#include "engine_core/engine_loop.h"

namespace trireme::engine {
namespace {

constexpr FrontEndId kFront{0};

// Takes steps and never answers; what it says of them is the test's.
class HangingExecutor final : public Executor {
 public:
  [[nodiscard]] StatusOr<KvCapacity> start(Bell&, StopSignal&) override { return KvCapacity{}; }
  [[nodiscard]] Status submit(const wire::StepInput&, Instant) override { return absl::OkStatus(); }
  [[nodiscard]] StatusOr<bool> try_collect(wire::StepResult&, Instant) override { return false; }
  [[nodiscard]] uint32_t steps_in_flight_max() const override { return 1; }
  [[nodiscard]] LateStep watch_step(StepId step, Instant) override {
    watched.push_back(step);
    return late;
  }
  [[nodiscard]] Status ask_expert_tables() override {
    owes = true;
    return absl::OkStatus();
  }
  [[nodiscard]] bool has_expert_tables() const override { return !owes; }
  [[nodiscard]] std::optional<std::vector<wire::ExpertTable>> take_expert_tables() override {
    if (owes) return std::nullopt;
    return std::vector<wire::ExpertTable>(1);
  }
  [[nodiscard]] bool owes_answers() const override { return owes; }
  [[nodiscard]] LateStep watch_call(Instant) override {
    watched.push_back(WorkerWatch::kNoStep);
    return late;
  }
  void kill_worker(uint32_t rank) noexcept override { killed.push_back(rank); }
  void stop() noexcept override {}

  LateStep late;
  std::vector<StepId> watched;
  std::vector<uint32_t> killed;
  bool owes = false;
};

class LateStepTest : public testing::Test {
 protected:
  explicit LateStepTest(const EngineLoopConfig& config = {})
      : channel_(*EngineChannel::create()),
        scheduler_({.model_tokens_max = 256, .kv = {.block_count = 64}}),
        loop_(config, scheduler_, executor_, *channel_) {
    RequestAdded added{kFront, {}};
    added.request.key = RequestKey{1};
    added.request.prompt_token_ids = {5, 6, 7};
    added.request.sampling.output_tokens_max = 4;
    EXPECT_TRUE(channel_->input.push(InputEvent(FrontEndJoined{kFront, 1})));
    EXPECT_TRUE(channel_->input.push(InputEvent(std::move(added))));
  }
  // In the place of a step.
  void only_call() {
    while (channel_->input.pop()) {
    }
    EXPECT_TRUE(channel_->input.push(InputEvent(FrontEndJoined{kFront, 1})));
    EXPECT_TRUE(channel_->input.push(
        InputEvent(UtilityCalled{kFront, {7, wire::UtilityMethod::kExpertTables}})));
  }
  // Of what has been published since.
  wire::EngineStats last_stats() {
    wire::EngineStats stats;
    while (auto message = channel_->output.pop()) stats = (*message)->outputs.stats;
    return stats;
  }
  void turn_for(Duration time) {
    for (const Instant end = now_ + time; now_ < end && !loop_.is_over();) {
      now_ += std::chrono::milliseconds(250);
      loop_.do_work(now_);
    }
  }

  std::unique_ptr<EngineChannel> channel_;
  HangingExecutor executor_;
  Scheduler scheduler_;
  EngineLoop loop_;
  Instant now_{std::chrono::hours(1)};
};

TEST_F(LateStepTest, the_workers_are_looked_at_while_a_step_is_late) {
  turn_for(std::chrono::seconds(4));
  EXPECT_EQ(executor_.watched, std::vector(15, StepId{1}));
}

TEST_F(LateStepTest, a_worker_that_stands_still_is_told_of_before_one_that_computes) {
  const auto told_within = [this](Duration time) {
    testing::internal::CaptureStderr();
    turn_for(time);
    return testing::internal::GetCapturedStderr().find("step_slow") != std::string::npos;
  };
  executor_.late = {.behind = 1, .motionless = std::chrono::milliseconds(1750)};
  EXPECT_FALSE(told_within(std::chrono::seconds(4)));
  EXPECT_TRUE(told_within(std::chrono::milliseconds(1500))) << "it takes long";
  EXPECT_FALSE(told_within(std::chrono::seconds(4)));
}

TEST_F(LateStepTest, a_worker_that_stands_still_is_told_of_after_two_seconds) {
  executor_.late = {.behind = 1, .motionless = WorkerWatch::kMotionlessWarning};
  testing::internal::CaptureStderr();
  turn_for(std::chrono::seconds(1));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("step_slow"), std::string::npos);
}

TEST_F(LateStepTest, a_motionless_worker_is_killed_and_the_engine_ends) {
  executor_.late = {
      .text = "rank 0 worker tp1", .behind = 1, .motionless = std::chrono::seconds(59)};
  turn_for(std::chrono::seconds(30));
  EXPECT_FALSE(loop_.is_over());
  executor_.late.motionless = std::chrono::seconds(60);
  turn_for(std::chrono::seconds(1));
  EXPECT_TRUE(loop_.is_over());
  EXPECT_EQ(executor_.killed, std::vector{1U});
}

TEST_F(LateStepTest, a_step_may_take_long_while_its_workers_show_progress) {
  executor_.late = {.text = "rank 0 worker tp1", .behind = 1, .still = std::chrono::seconds(299)};
  turn_for(std::chrono::hours(1));
  EXPECT_FALSE(loop_.is_over());
  executor_.late.still = std::chrono::seconds(300);
  turn_for(std::chrono::seconds(1));
  EXPECT_EQ(executor_.killed, std::vector{1U});
}

TEST_F(LateStepTest, a_call_that_is_not_answered_is_looked_at_and_told_of_until_it_is) {
  only_call();
  executor_.late = {.text = "rank 0 worker tp1",
                    .behind = 1,
                    .motionless = std::chrono::milliseconds(1750),
                    .facts = {.phase = wire::StallPhase::kQueue, .worker_pid = 4711}};
  turn_for(std::chrono::seconds(4));
  EXPECT_EQ(executor_.watched, std::vector(15, WorkerWatch::kNoStep));
  EXPECT_EQ(last_stats().stall, "");
  executor_.late.motionless = WorkerWatch::kMotionlessWarning;
  testing::internal::CaptureStderr();
  turn_for(std::chrono::seconds(4));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("step_slow"), std::string::npos);
  EXPECT_EQ(log.find("step_slow"), log.rfind("step_slow")) << "once";
  const wire::EngineStats stats = last_stats();
  EXPECT_EQ(stats.stall, "rank 0 worker tp1");
  ASSERT_TRUE(stats.standing.stall);
  EXPECT_EQ(stats.standing.stall->worker_pid, 4711U);
  executor_.owes = false;
  turn_for(std::chrono::milliseconds(500));
  EXPECT_EQ(last_stats().stall, "");
  EXPECT_EQ(executor_.watched.size(), 31U) << "not any longer";
}

TEST_F(LateStepTest, a_motionless_worker_that_owes_an_answer_is_killed) {
  only_call();
  executor_.late = {
      .text = "rank 0 worker tp1", .behind = 1, .motionless = std::chrono::seconds(60)};
  turn_for(std::chrono::seconds(1));
  EXPECT_TRUE(loop_.is_over());
  EXPECT_EQ(executor_.killed, std::vector{1U});
}

class LateStepOfGroupTest : public LateStepTest {
 protected:
  LateStepOfGroupTest() : LateStepTest({.worker_timeout = std::chrono::seconds(3)}) {}
};

TEST_F(LateStepOfGroupTest, a_worker_that_loads_experts_is_not_given_up_for_a_slow_disk) {
  executor_.late = {.text = "rank 0 worker tp1",
                    .behind = 1,
                    .motionless = WorkerWatch::kLoadingMax - std::chrono::seconds(1),
                    .is_loading = true};
  turn_for(std::chrono::seconds(30));
  EXPECT_FALSE(loop_.is_over());
  executor_.late.motionless = WorkerWatch::kLoadingMax;
  turn_for(std::chrono::seconds(1));
  EXPECT_EQ(executor_.killed, std::vector{1U});
}

TEST_F(LateStepOfGroupTest, a_worker_at_anything_else_is_given_up_soon) {
  executor_.late = {
      .text = "rank 0 worker tp1", .behind = 1, .motionless = std::chrono::seconds(3)};
  turn_for(std::chrono::seconds(1));
  EXPECT_EQ(executor_.killed, std::vector{1U});
}

TEST_F(LateStepTest, without_a_culprit_in_sight_the_step_has_its_limit) {
  turn_for(std::chrono::seconds(299));
  EXPECT_FALSE(loop_.is_over());
  turn_for(std::chrono::seconds(3));
  EXPECT_TRUE(loop_.is_over());
  EXPECT_TRUE(executor_.killed.empty());
}

}  // namespace
}  // namespace trireme::engine
