// What an engine does per step besides the model, with 1 to 256 sequences decoding, on one core:
//
//   schedule_and_result   make the step, take in its tokens
//   whole_step            and pack the step, unpack the result, pack the outputs
//
// Budget (engine and worker together): 150 us with 64 running, 400 us with 256.
#include <benchmark/benchmark.h>

#include "engine_core/scheduler.h"
#include "proto/messages.h"

namespace trireme::engine {
namespace {

constexpr FrontEndId kFront{0};

class Engine {
 public:
  explicit Engine(uint32_t sequences) : scheduler_(config(sequences)) {
    for (uint32_t i = 0; i < sequences; ++i) add(i);
    while (step() < sequences) {
    }
  }

  const wire::StepInput& schedule() { return *scheduler_.schedule(Instant{}); }
  void take(const wire::StepInput& step) {
    result_.step = step.step;
    result_.row_token.assign(step.row_slot.size(), 7);
    if (!scheduler_.on_result(result_, outputs_).ok()) std::abort();
  }
  // The rows of the step, each of which gave a token.
  std::size_t step() {
    const wire::StepInput& input = schedule();
    take(input);
    outputs_.take(kFront, message_.outputs);
    return message_.outputs.size();
  }
  void wire_step() {
    const wire::StepInput& input = schedule();
    bytes_.clear();
    wire::pack(input, bytes_);
    result_.step = input.step;
    result_.row_token.assign(input.row_slot.size(), 7);
    bytes_.clear();
    wire::pack(result_, bytes_);
    auto unpacked = wire::unpack<wire::StepResult>(bytes_);
    if (!scheduler_.on_result(*unpacked, outputs_).ok()) std::abort();
    outputs_.take(kFront, message_.outputs);
    bytes_.clear();
    wire::pack(message_, bytes_);
    benchmark::DoNotOptimize(bytes_.data());
  }

 private:
  static SchedulerConfig config(uint32_t sequences) {
    SchedulerConfig config;
    config.sequences_max = sequences;
    config.model_tokens_max = 1 << 20;
    config.kv.block_count = 1 << 20;
    return config;
  }
  void add(uint32_t key) {
    wire::AddRequest request;
    request.key = RequestKey{key};
    for (int32_t i = 0; i < 100; ++i) {
      request.prompt_token_ids.push_back(i + static_cast<int32_t>(key) * 1000);
    }
    request.sampling.output_tokens_max = 1 << 20;
    request.sampling.eos_token_ids = {2};
    scheduler_.add(kFront, request, Instant{}, outputs_);
  }

  Scheduler scheduler_;
  StepOutputs outputs_;
  wire::StepResult result_;
  wire::EngineOutputs message_;
  wire::Buffer bytes_;
};

// Time grows the sequences' tables; a fixed number of steps keeps runs comparable.
constexpr int kSteps = 20000;

void schedule_and_result(benchmark::State& state) {
  Engine engine(static_cast<uint32_t>(state.range(0)));
  for (auto _ : state) engine.step();
}
BENCHMARK(schedule_and_result)->Arg(1)->Arg(64)->Arg(256)->Iterations(kSteps);

void whole_step(benchmark::State& state) {
  Engine engine(static_cast<uint32_t>(state.range(0)));
  for (auto _ : state) engine.wire_step();
}
BENCHMARK(whole_step)->Arg(1)->Arg(64)->Arg(256)->Iterations(kSteps);

}  // namespace
}  // namespace trireme::engine

BENCHMARK_MAIN();
