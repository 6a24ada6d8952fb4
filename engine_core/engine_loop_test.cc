// Goal: the main loop's duties, without sockets: the test is the I/O thread's end of the channel,
// the executor is sim, and time is the test's.
#include "engine_core/engine_loop.h"

#include <gtest/gtest.h>

#include <map>

#include "engine_core/executor/sim.h"

namespace trireme::engine {
namespace {

constexpr FrontEndId kFront{0};
constexpr FrontEndId kOther{1};

class EngineLoopTest : public testing::Test {
 protected:
  EngineLoopTest()
      : channel_(*EngineChannel::create()),
        executor_(options(), SimProfile{.base_us = 1000, .prefill_us = 0, .decode_us = 0}),
        scheduler_(config()),
        loop_({.engine = EngineId{3},
               .incarnation = Incarnation{9},
               .drain_timeout = std::chrono::seconds(1)},
              scheduler_, executor_, *channel_) {
    push(FrontEndJoined{kFront, 1});
    push(FrontEndJoined{kOther, 2});
    turn();
    (void)take();
  }

  static ServeOptions options() {
    ServeOptions options;
    options.scheduler.block_count = 64;
    options.model.model_tokens_max = 256;
    return options;
  }
  static SchedulerConfig config() {
    SchedulerConfig config;
    config.model_tokens_max = 256;
    config.kv.block_count = 64;
    return config;
  }

  template <typename Event>
  void push(Event event) {
    InputEvent input(std::in_place_type<Event>, std::move(event));
    ASSERT_TRUE(channel_->input.push(std::move(input)));
  }
  void add(FrontEndId front_end, uint64_t key, uint32_t output_tokens) {
    RequestAdded added{front_end, {}};
    added.request.key = RequestKey{key};
    added.request.prompt_token_ids = {5, 6, 7};
    added.request.sampling.output_tokens_max = output_tokens;
    push(std::move(added));
  }
  void call(uint64_t id, wire::UtilityMethod method, const char* argument = "") {
    push(UtilityCalled{kFront, {id, method, argument}});
  }
  // One turn, a millisecond after the last: about one step of the sim.
  void turn() {
    now_ += std::chrono::milliseconds(1);
    loop_.do_work(now_);
  }
  std::vector<std::unique_ptr<OutputMessage>> take() {
    std::vector<std::unique_ptr<OutputMessage>> messages;
    while (auto message = channel_->output.pop()) messages.push_back(*std::move(message));
    return messages;
  }
  // All outputs for a key that come within `turns` turns.
  std::vector<wire::EngineOutput> outputs_of(uint64_t key, int turns) {
    std::vector<wire::EngineOutput> all;
    for (int i = 0; i < turns; ++i) {
      turn();
      for (const auto& message : take()) {
        for (const auto& output : message->outputs.outputs) {
          if (output.key == RequestKey{key}) all.push_back(output);
        }
      }
    }
    return all;
  }

  std::unique_ptr<EngineChannel> channel_;
  SimExecutor executor_;
  Scheduler scheduler_;
  EngineLoop loop_;
  Instant now_{std::chrono::hours(1)};
};

TEST_F(EngineLoopTest, a_request_gets_its_tokens_and_its_end) {
  add(kFront, 7, 5);
  const auto outputs = outputs_of(7, 20);
  ASSERT_EQ(outputs.size(), 5u);
  for (const auto& output : outputs) EXPECT_EQ(output.token_ids.size(), 1u);
  EXPECT_EQ(outputs.back().finish_reason, wire::FinishReason::kLength);
  EXPECT_FALSE(scheduler_.has_requests());
}

TEST_F(EngineLoopTest, each_front_end_gets_its_own_outputs_and_everybody_the_load) {
  add(kFront, 1, 1);
  turn();
  add(kOther, 2, 1);
  for (int i = 0; i < 30; ++i) turn();
  std::vector<uint64_t> received(2);
  std::vector<uint32_t> running(2);
  for (const auto& message : take()) {
    for (const auto& output : message->outputs.outputs) {
      EXPECT_EQ(output.key, RequestKey{message->front_end.value + 1});
    }
    EXPECT_EQ(message->outputs.engine, EngineId{3});
    EXPECT_EQ(message->outputs.incarnation, Incarnation{9});
    received[message->front_end.value] = message->outputs.requests_received;
    running[message->front_end.value] = message->outputs.stats.running;
  }
  EXPECT_EQ(received, (std::vector<uint64_t>{1, 1}));
  EXPECT_EQ(running, (std::vector<uint32_t>{0, 0})) << "the last word is: idle";
}

TEST_F(EngineLoopTest, an_abort_takes_effect_with_the_next_turn) {
  add(kFront, 1, 200);
  turn();
  EXPECT_TRUE(scheduler_.has_requests());
  push(RequestsAborted{kFront, {RequestKey{1}, RequestKey{99}}});
  turn();
  EXPECT_FALSE(scheduler_.has_requests());
  EXPECT_TRUE(outputs_of(1, 5).empty());
}

TEST_F(EngineLoopTest, a_front_end_that_leaves_takes_its_requests_along) {
  add(kFront, 1, 200);
  add(kOther, 2, 200);
  turn();
  push(FrontEndLeft{kFront});
  turn();
  EXPECT_EQ(scheduler_.request_count(), 1u);
  (void)take();
  for (int i = 0; i < 5; ++i) turn();
  for (const auto& message : take()) EXPECT_EQ(message->front_end, kOther);
}

TEST_F(EngineLoopTest, draining_finishes_what_runs_and_refuses_what_comes) {
  add(kFront, 1, 3);
  turn();
  loop_.begin_drain(now_);
  add(kFront, 2, 3);
  const auto refused = outputs_of(2, 1);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].finish_reason, wire::FinishReason::kError);
  EXPECT_EQ(refused[0].error_code, static_cast<uint8_t>(StatusCode::kUnavailable));
  EXPECT_FALSE(loop_.is_over());
  const auto outputs = outputs_of(1, 10);
  ASSERT_FALSE(outputs.empty());
  EXPECT_EQ(outputs.back().finish_reason, wire::FinishReason::kLength);
  EXPECT_TRUE(loop_.is_over());
}

TEST_F(EngineLoopTest, draining_ends_with_its_time_and_says_so) {
  add(kFront, 1, 200);
  turn();
  loop_.begin_drain(now_);
  now_ += std::chrono::seconds(2);
  const auto outputs = outputs_of(1, 1);
  ASSERT_FALSE(outputs.empty());
  EXPECT_EQ(outputs.back().finish_reason, wire::FinishReason::kError);
  EXPECT_TRUE(loop_.is_over());
}

TEST_F(EngineLoopTest, pause_wait_is_answered_when_idle_and_refuses_new_requests) {
  add(kFront, 1, 3);
  turn();
  (void)take();
  call(5, wire::UtilityMethod::kPause, "wait");
  add(kFront, 2, 3);
  bool refused = false;
  bool answered = false;
  bool ended = false;
  for (int i = 0; i < 15; ++i) {
    turn();
    for (const auto& message : take()) {
      if (message->reply) {
        EXPECT_TRUE(ended) << "not before the last request has ended";
        answered = message->reply->ok && message->reply->call_id == 5;
      }
      for (const auto& output : message->outputs.outputs) {
        if (output.key == RequestKey{2}) refused = true;
        if (output.finish_reason == wire::FinishReason::kLength) ended = true;
      }
    }
  }
  EXPECT_TRUE(refused && answered && ended);
  call(6, wire::UtilityMethod::kResume);
  add(kFront, 3, 1);
  EXPECT_EQ(outputs_of(3, 10).size(), 1u);
}

TEST_F(EngineLoopTest, pause_keep_freezes_and_resume_goes_on) {
  add(kFront, 1, 4);
  turn();
  call(5, wire::UtilityMethod::kPause, "keep");
  turn();
  turn();
  const auto before = outputs_of(1, 3);
  EXPECT_TRUE(outputs_of(1, 20).empty());
  call(6, wire::UtilityMethod::kResume);
  const auto after = outputs_of(1, 20);
  ASSERT_FALSE(after.empty());
  EXPECT_EQ(after.back().finish_reason, wire::FinishReason::kLength);
}

TEST_F(EngineLoopTest, pause_abort_ends_all_and_the_cache_can_be_reset_then) {
  add(kFront, 1, 200);
  turn();
  call(4, wire::UtilityMethod::kResetPrefixCache);
  call(5, wire::UtilityMethod::kPause, "abort");
  call(6, wire::UtilityMethod::kResetPrefixCache);
  call(7, wire::UtilityMethod::kPause, "nonsense");
  turn();
  turn();
  std::map<uint64_t, bool> replies;
  bool aborted = false;
  for (const auto& message : take()) {
    if (message->reply) replies[message->reply->call_id] = message->reply->ok;
    for (const auto& output : message->outputs.outputs) {
      aborted = aborted || output.finish_reason == wire::FinishReason::kAbort;
    }
  }
  EXPECT_TRUE(aborted);
  EXPECT_EQ(replies, (std::map<uint64_t, bool>{{4, false}, {5, true}, {6, true}, {7, false}}));
}

TEST_F(EngineLoopTest, a_refused_member_stops_with_the_reason) {
  push(MembershipRefused{"dtype: bfloat16 here, float32 there"});
  turn();
  EXPECT_TRUE(loop_.is_over());
}

TEST_F(EngineLoopTest, with_the_output_ring_full_nothing_is_lost_and_no_step_is_made) {
  while (channel_->output.push(std::make_unique<OutputMessage>())) {
  }
  add(kFront, 1, 4);
  for (int i = 0; i < 30; ++i) turn();
  EXPECT_TRUE(scheduler_.has_requests()) << "held back";
  (void)take();
  const auto outputs = outputs_of(1, 60);
  std::size_t tokens = 0;
  for (const auto& output : outputs) tokens += output.token_ids.size();
  EXPECT_EQ(tokens, 4u);
}

TEST(SimProfile, names_what_it_does_not_understand) {
  EXPECT_TRUE(SimProfile::parse("").ok());
  const auto profile = SimProfile::parse("base_us=1.5,decode_us=7");
  ASSERT_TRUE(profile.ok());
  EXPECT_EQ(profile->base_us, 1.5);
  EXPECT_EQ(profile->decode_us, 7);
  for (const char* bad : {"base_us", "speed=3", "base_us=x", "base_us=-1", "vocab=2"}) {
    EXPECT_FALSE(SimProfile::parse(bad).ok()) << bad;
  }
}

// Answers at once; what waits in its queues is the test's.
class QuickExecutor final : public Executor {
 public:
  [[nodiscard]] StatusOr<KvCapacity> start(Bell&, StopSignal&) override { return KvCapacity{}; }
  [[nodiscard]] Status submit(const wire::StepInput& step, Instant) override {
    step_ = step.step;
    rows_ = step.row_slot.size();
    return absl::OkStatus();
  }
  [[nodiscard]] StatusOr<bool> try_collect(wire::StepResult& result, Instant) override {
    result = {.step = step_};
    result.row_token.assign(rows_, 5);
    return true;
  }
  [[nodiscard]] uint32_t steps_in_flight_max() const override { return 1; }
  [[nodiscard]] std::optional<wire::ShmStats> shm_stats() const override { return shm; }
  [[nodiscard]] Status release_memory() override {
    ++releases;
    return absl::OkStatus();
  }
  [[nodiscard]] bool is_memory_released() const override { return is_released; }
  [[nodiscard]] Status check_memory() const override { return memory; }
  void stop() noexcept override {}

  wire::ShmStats shm;
  int releases = 0;
  bool is_released = false;
  Status memory;

 private:
  StepId step_;
  std::size_t rows_ = 0;
};

// A loop over it with one front end, and what that has heard.
class EngineLoopSleepTest : public testing::Test {
 protected:
  EngineLoopSleepTest()
      : channel_(*EngineChannel::create()), loop_({}, scheduler_, executor_, *channel_) {
    push(FrontEndJoined{kFront, 1});
  }
  template <typename Event>
  void push(Event event) {
    ASSERT_TRUE(channel_->input.push(InputEvent(std::move(event))));
  }
  void add(uint64_t key, uint32_t output_tokens) {
    RequestAdded added{kFront, {}};
    added.request.key = RequestKey{key};
    added.request.prompt_token_ids = {5, 6, 7};
    added.request.sampling.output_tokens_max = output_tokens;
    push(std::move(added));
  }
  // The id is also when it was asked for.
  void call(uint64_t id, wire::UtilityMethod method, const char* argument = "") {
    push(UtilityCalled{kFront, {id, method, argument, id}});
  }
  void turns(int count) {
    for (int i = 0; i < count; ++i) {
      now_ += std::chrono::milliseconds(1);
      loop_.do_work(now_);
      while (auto message = channel_->output.pop()) {
        if ((*message)->reply) replies_[(*message)->reply->call_id] = *(*message)->reply;
        for (const auto& output : (*message)->outputs.outputs) {
          tokens_ += output.token_ids.size();
          last_ = output;
        }
      }
    }
  }

  std::unique_ptr<EngineChannel> channel_;
  QuickExecutor executor_;
  Scheduler scheduler_{{.model_tokens_max = 256, .kv = {.block_count = 64}}};
  EngineLoop loop_;
  Instant now_{std::chrono::hours(1)};
  std::map<uint64_t, wire::UtilityReply> replies_;
  std::size_t tokens_ = 0;
  wire::EngineOutput last_;
};

TEST_F(EngineLoopSleepTest, what_is_kept_gives_up_its_memory_and_is_computed_again) {
  add(1, 20);
  turns(5);
  call(10, wire::UtilityMethod::kSleep, "keep");
  turns(3);
  EXPECT_EQ(executor_.releases, 1);
  EXPECT_TRUE(replies_.empty()) << "not before the memory is gone";
  EXPECT_EQ(scheduler_.stats().waiting, 1u);
  EXPECT_EQ(scheduler_.stats().kv_usage, 0.0F);
  executor_.is_released = true;
  turns(1);
  EXPECT_TRUE(replies_.at(10).ok);
  const std::size_t before = tokens_;
  add(2, 1);
  turns(5);
  EXPECT_EQ(tokens_, before);
  EXPECT_EQ(executor_.releases, 1);
  call(11, wire::UtilityMethod::kResume);
  turns(30);
  EXPECT_EQ(tokens_, 21u);
}

TEST_F(EngineLoopSleepTest, what_was_kept_and_then_runs_to_its_end_gives_up_memory_once_more) {
  executor_.is_released = true;
  add(1, 20);
  turns(5);
  call(10, wire::UtilityMethod::kSleep, "keep");
  turns(3);
  EXPECT_EQ(executor_.releases, 1);
  call(11, wire::UtilityMethod::kSleep, "wait");
  turns(3);
  EXPECT_FALSE(replies_.contains(11));
  turns(30);
  EXPECT_EQ(tokens_, 20u);
  EXPECT_EQ(executor_.releases, 2);
  EXPECT_TRUE(replies_.at(11).ok);
}

TEST_F(EngineLoopSleepTest, abort_ends_all_and_what_comes_hears_that_it_is_asleep) {
  executor_.is_released = true;
  add(1, 200);
  turns(3);
  call(10, wire::UtilityMethod::kSleep, "abort");
  turns(3);
  EXPECT_TRUE(replies_.at(10).ok);
  EXPECT_EQ(last_.finish_reason, wire::FinishReason::kAbort);
  add(2, 1);
  turns(1);
  EXPECT_EQ(last_.error, "The engine is asleep.");
  call(11, wire::UtilityMethod::kIsPaused);
  turns(1);
  EXPECT_EQ(replies_.at(11).result, "true");
}

TEST_F(EngineLoopSleepTest, wait_lets_memory_go_after_the_last_request) {
  executor_.is_released = true;
  add(1, 10);
  turns(3);
  call(10, wire::UtilityMethod::kSleep, "wait");
  turns(3);
  EXPECT_EQ(executor_.releases, 0);
  turns(20);
  EXPECT_EQ(executor_.releases, 1);
  EXPECT_EQ(tokens_, 10u);
  EXPECT_TRUE(replies_.at(10).ok);
}

TEST_F(EngineLoopSleepTest, without_room_for_its_memory_it_says_so_and_sleeps_on) {
  executor_.is_released = true;
  executor_.memory = error(StatusCode::kResourceExhausted, "1 MiB needed");
  call(9, wire::UtilityMethod::kCheckMemory);
  call(10, wire::UtilityMethod::kSleep, "abort");
  turns(3);
  EXPECT_TRUE(replies_.at(9).ok) << "it had its memory";
  call(11, wire::UtilityMethod::kCheckMemory);
  turns(1);
  EXPECT_FALSE(replies_.at(11).ok);
  EXPECT_EQ(replies_.at(11).result, "1 MiB needed");
  executor_.memory = absl::OkStatus();
  call(12, wire::UtilityMethod::kCheckMemory);
  call(13, wire::UtilityMethod::kResume);
  add(1, 1);
  turns(3);
  EXPECT_TRUE(replies_.at(12).ok && replies_.at(13).ok);
  EXPECT_EQ(tokens_, 1u);
}

TEST_F(EngineLoopSleepTest, one_that_is_woken_while_its_memory_leaves_may_sleep_again) {
  call(10, wire::UtilityMethod::kSleep, "abort");
  turns(2);
  call(11, wire::UtilityMethod::kResume);
  turns(2);
  EXPECT_TRUE(replies_.at(10).ok && replies_.at(11).ok);
  call(12, wire::UtilityMethod::kSleep, "abort");
  turns(2);
  EXPECT_EQ(executor_.releases, 2);
  EXPECT_FALSE(replies_.contains(12));
  executor_.is_released = true;
  turns(2);
  EXPECT_TRUE(replies_.at(12).ok);
}

TEST(EngineLoop, chunks_that_wait_when_it_goes_idle_are_told_of_until_they_are_taken) {
  const auto channel = *EngineChannel::create();
  QuickExecutor executor;
  Scheduler scheduler({.model_tokens_max = 256, .kv = {.block_count = 64}});
  EngineLoop loop({}, scheduler, executor, *channel);
  Instant now{std::chrono::hours(1)};
  std::vector<uint64_t> told;
  const auto turn = [&](int milliseconds) {
    now += std::chrono::milliseconds(milliseconds);
    loop.do_work(now);
    while (auto message = channel->output.pop()) {
      if ((*message)->outputs.shm) told.push_back((*message)->outputs.shm->steps.chunks_waiting);
    }
  };
  RequestAdded added{kFront, {}};
  added.request.key = RequestKey{1};
  added.request.prompt_token_ids = {5, 6, 7};
  added.request.sampling.output_tokens_max = 1;
  ASSERT_TRUE(channel->input.push(InputEvent(FrontEndJoined{kFront, 1})));
  ASSERT_TRUE(channel->input.push(InputEvent(std::move(added))));
  executor.shm.steps.chunks_waiting = 1;
  turn(1);
  turn(1);
  ASSERT_FALSE(scheduler.has_requests());
  EXPECT_EQ(told.back(), 1u);
  executor.shm.steps.chunks_waiting = 0;
  told.clear();
  // Like the result of a step that was under way when the request ended.
  ASSERT_TRUE(channel->input.push(InputEvent(RequestsAborted{kFront, {RequestKey{1}}})));
  turn(1);
  turn(100);
  turn(100);
  EXPECT_EQ(told, std::vector<uint64_t>{0});
}

TEST(EngineLoop, when_it_is_idle_every_front_end_gets_the_last_figures_of_the_queues) {
  const auto channel = *EngineChannel::create();
  QuickExecutor executor;
  Scheduler scheduler({.model_tokens_max = 256, .kv = {.block_count = 64}});
  EngineLoop loop({}, scheduler, executor, *channel);
  Instant now{std::chrono::hours(1)};
  std::map<uint32_t, uint64_t> told;
  const auto turn = [&](int milliseconds) {
    now += std::chrono::milliseconds(milliseconds);
    loop.do_work(now);
    while (auto message = channel->output.pop()) {
      const auto& shm = (*message)->outputs.shm;
      if (shm) told[(*message)->front_end.value] = shm->steps.chunks_waiting;
    }
  };
  ASSERT_TRUE(channel->input.push(InputEvent(FrontEndJoined{kFront, 1})));
  ASSERT_TRUE(channel->input.push(InputEvent(FrontEndJoined{kOther, 2})));
  executor.shm.steps.chunks_waiting = 1;
  turn(1);
  EXPECT_EQ(told, (std::map<uint32_t, uint64_t>{{kFront.value, 1}, {kOther.value, 1}}));
  executor.shm.steps.chunks_waiting = 0;
  RequestAdded added{kFront, {}};  // Done so soon that the other front end never hears of it.
  added.request.key = RequestKey{1};
  added.request.prompt_token_ids = {5, 6, 7};
  added.request.sampling.output_tokens_max = 1;
  ASSERT_TRUE(channel->input.push(InputEvent(std::move(added))));
  for (int i = 0; i < 3; ++i) turn(1);
  ASSERT_FALSE(scheduler.has_requests());
  turn(100);
  EXPECT_EQ(told, (std::map<uint32_t, uint64_t>{{kFront.value, 0}, {kOther.value, 0}}));
  told.clear();
  for (int i = 0; i < 10; ++i) turn(100);
  EXPECT_TRUE(told.empty());
}

}  // namespace
}  // namespace trireme::engine
