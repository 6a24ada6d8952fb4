// An engine without queues and sockets: the product's scheduler over the product's worker, and what
// each request is told. Who drives it says when a step is made and when its result is known.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine_core/scheduler.h"
#include "tests/numerics/store_for_test.h"
#include "worker/worker_core.h"

namespace trireme {

// Built with a sanitizer, everything takes some ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<wire::TokenLogprobs> logprobs;
  std::vector<wire::TokenLogprobs> prompt_logprobs;
  wire::FinishReason reason = wire::FinishReason::kNone;
  std::optional<int32_t> stop_token;
};

// To the bit.
inline void expect_equal(const Answer& got, const Answer& wanted) {
  ASSERT_EQ(got.tokens, wanted.tokens);
  ASSERT_EQ(got.reason, wanted.reason);
  ASSERT_EQ(got.stop_token, wanted.stop_token);
  ASSERT_EQ(got.logprobs.size(), wanted.logprobs.size());
  ASSERT_TRUE(got.logprobs == wanted.logprobs);
  ASSERT_EQ(got.prompt_logprobs.size(), wanted.prompt_logprobs.size());
  ASSERT_TRUE(got.prompt_logprobs == wanted.prompt_logprobs);
}

// A scheduler and what it tells requests, whose keys are 0, 1, 2, ...
class SchedulerForTest {
 public:
  explicit SchedulerForTest(const engine::SchedulerConfig& config) : scheduler_(config) {}

  void add(const wire::AddRequest& request, Instant now = {}) {
    answers_.resize(std::max<std::size_t>(answers_.size(), request.key.value + 1));
    scheduler_.add(kFront, request, now, outputs_);
    take_outputs();
  }
  // False: it is over.
  bool abort(RequestKey key) { return scheduler_.abort(kFront, key); }
  [[nodiscard]] const wire::StepInput* schedule(Instant now = {}) {
    return scheduler_.schedule(now);
  }
  void take(wire::StepResult& result) {
    const Status status = scheduler_.on_result(result, Instant{}, outputs_);
    ASSERT_TRUE(status.ok()) << status;
    take_outputs();
  }

  [[nodiscard]] const std::vector<Answer>& answers() const { return answers_; }
  [[nodiscard]] wire::EngineStats stats() const { return scheduler_.stats(); }
  [[nodiscard]] bool has_requests() const { return scheduler_.has_requests(); }
  [[nodiscard]] uint32_t steps_in_flight() const { return scheduler_.steps_in_flight(); }
  void check_invariants() const { scheduler_.check_invariants(); }

 private:
  static constexpr engine::FrontEndId kFront{0};

  void take_outputs() {
    std::vector<wire::EngineOutput> outputs;
    outputs_.take(kFront, outputs);
    for (const wire::EngineOutput& output : outputs) take_output(output);
  }

  void take_output(const wire::EngineOutput& output) {
    Answer& answer = answers_[output.key.value];
    const auto append = [](auto& to, const auto& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    ASSERT_EQ(answer.reason, wire::FinishReason::kNone) << "an output after the end";
    append(answer.tokens, output.token_ids);
    append(answer.logprobs, output.logprobs);
    append(answer.prompt_logprobs, output.prompt_logprobs);
    answer.reason = output.finish_reason;
    answer.stop_token = output.stop_token_id;
  }

  engine::Scheduler scheduler_;
  engine::StepOutputs outputs_;
  std::vector<Answer> answers_;  // By key.
};

class EngineForTest {
 public:
  EngineForTest(const engine::SchedulerConfig& config, worker::WorkerParts parts)
      : steps_in_flight_max_(config.steps_in_flight_max), requests_(config) {
    parts.open_store = worker::open_store_for_test;
    worker_ = worker::make_worker(std::move(parts));
    EXPECT_TRUE(worker_->allocate_kv(config.kv.block_count).ok());
    if (config.kv.store_slot_count == 0) return;
    EXPECT_TRUE(worker_->open_store(config.kv.store_slot_count).ok());
  }

  void add(const wire::AddRequest& request, Instant now = {}) { requests_.add(request, now); }
  bool abort(RequestKey key) { return requests_.abort(key); }

  // Makes the next step and runs it; its result waits. Nothing where none can be made now.
  void submit(Instant now = {}) {
    if (requests_.steps_in_flight() == steps_in_flight_max_) return;
    const wire::StepInput* step = requests_.schedule(now);
    if (step == nullptr) return;
    for (std::size_t row = 0; row < step->row_slot.size(); ++row) {
      cut_prompt_count_ += (step->row_flags[row] & wire::kRowSamples) == 0 ? 1 : 0;
    }
    StatusOr<wire::StepResult> result = worker_->execute(*step);
    ASSERT_TRUE(result.ok()) << result.status();
    results_.push_back(*std::move(result));
  }
  // Takes in the oldest result that waits, if any.
  void collect() {
    if (results_.empty()) return;
    requests_.take(results_.front());
    results_.pop_front();
  }
  void step() {
    submit();
    collect();
  }

  // Until no request is left.
  void run() {
    for (int i = 0; is_busy() && i < 100'000; ++i) {
      step();
      if (testing::Test::HasFatalFailure()) return;
    }
    ASSERT_FALSE(is_busy());
    requests_.check_invariants();
  }

  [[nodiscard]] const std::vector<Answer>& answers() const { return requests_.answers(); }
  [[nodiscard]] wire::EngineStats stats() const { return requests_.stats(); }
  // Pieces of prompts that were not their last.
  [[nodiscard]] uint32_t cut_prompt_count() const { return cut_prompt_count_; }
  [[nodiscard]] bool is_busy() const { return requests_.has_requests() || !results_.empty(); }

 private:
  const uint32_t steps_in_flight_max_;
  SchedulerForTest requests_;
  std::unique_ptr<worker::Worker> worker_;
  std::deque<wire::StepResult> results_;
  uint32_t cut_prompt_count_ = 0;
};

}  // namespace trireme
