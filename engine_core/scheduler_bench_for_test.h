// A small scheduler over a FakeWorker, for tests that look at single steps.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "engine_core/fake_worker_for_test.h"
#include "engine_core/scheduler.h"

namespace trireme::engine {

inline constexpr FrontEndId kFront{0};

inline SchedulerConfig small_config() {
  SchedulerConfig config;
  config.sequences_max = 4;
  config.batched_tokens_max = 64;
  config.model_tokens_max = 256;
  config.kv.block_count = 64;
  config.kv.block_tokens = 4;
  return config;
}

inline wire::AddRequest request(uint64_t key, uint32_t prompt_count, uint32_t output_max = 100) {
  wire::AddRequest request;
  request.key = RequestKey{key};
  for (uint32_t i = 0; i < prompt_count; ++i) {
    request.prompt_token_ids.push_back(static_cast<int32_t>(mix64(key * 1000 + i) % 40));
  }
  request.sampling.output_tokens_max = output_max;
  return request;
}

class SchedulerBench {
 public:
  explicit SchedulerBench(const SchedulerConfig& config, bool repeats = false)
      : scheduler(config),
        worker_({config.kv.block_count, config.kv.block_tokens, config.pipeline_stages == 1, 0,
                 repeats, config.kv.store_slot_count}) {}

  void add(const wire::AddRequest& added, Instant now = {}) {
    scheduler.add(kFront, added, now, outputs_);
  }
  // The step, or an empty one.
  wire::StepInput schedule() {
    const wire::StepInput* step = scheduler.schedule(Instant{});
    if (step == nullptr) return {};
    results_.push_back(worker_.execute(*step));
    EXPECT_EQ(worker_.problem(), "");
    return *step;
  }
  std::vector<wire::EngineOutput> collect() {
    EXPECT_TRUE(scheduler.on_result(results_.front(), Instant{}, outputs_).ok());
    results_.erase(results_.begin());
    return outputs();
  }
  std::vector<wire::EngineOutput> step() {
    schedule();
    return collect();
  }
  std::vector<wire::EngineOutput> outputs() {
    std::vector<wire::EngineOutput> taken;
    outputs_.take(kFront, taken);
    return taken;
  }

  Scheduler scheduler;

 private:
  FakeWorker worker_;
  StepOutputs outputs_;
  std::vector<wire::StepResult> results_;
};

}  // namespace trireme::engine
