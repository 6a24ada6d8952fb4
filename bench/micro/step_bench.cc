// What an engine does per step besides the model, with 64 and 256 sequences decoding, on one core:
//
//   engine   make the step, take in its tokens, make and pack what the front ends get
//   worker   unpack the step, keep the sequence table, prepare the forward, choose tokens
//   total    both, and the step and its result packed and unpacked between them   budget 150, 400
//   µs
//
// The model is one that does nothing and knows 32 tokens, so that neither a forward nor the search
// through a vocabulary is in it. Greedy, 100 tokens of prompt. The median of the steps.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/figure.h"
#include "engine_core/scheduler.h"
#include "proto/messages.h"
#include "worker/worker_core.h"

namespace trireme {
namespace {

constexpr engine::FrontEndId kFront{0};
constexpr uint32_t kBlocks = 1 << 16;
constexpr int kWarmSteps = 200;
constexpr int kSteps = 2000;

class NullModel final : public worker::Model {
 public:
  static constexpr uint32_t kVocabulary = 32;
  [[nodiscard]] uint64_t weight_bytes() const override { return 0; }
  [[nodiscard]] uint32_t vocabulary_size() const override { return kVocabulary; }
  [[nodiscard]] uint32_t hidden_size() const override { return 1; }
  [[nodiscard]] worker::KvShape kv_shape() const override { return {.block_bytes = 1}; }
  [[nodiscard]] Status allocate_kv(uint32_t) override { return absl::OkStatus(); }
  void release_kv() override {}
  void copy_block_out(uint32_t, std::span<std::byte>) const override {}
  void copy_block_in(uint32_t, std::span<const std::byte>) override {}
  [[nodiscard]] Status forward(const worker::ForwardBatch&, std::span<const float>,
                               std::span<float>, std::span<float> logits) override {
    std::fill(logits.begin(), logits.end(), 0.0F);
    for (std::size_t i = 7; i < logits.size(); i += kVocabulary) logits[i] = 1;
    return absl::OkStatus();
  }
};

template <typename Value>
Value or_die(StatusOr<Value> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "step_bench: %s\n", std::string(value.status().message()).c_str());
  std::exit(EXIT_FAILURE);
}

struct StepTime {
  Duration engine;
  Duration worker;
  Duration total;
};

class Rank {
 public:
  explicit Rank(uint32_t sequences) : scheduler_(config(sequences)) {
    worker::WorkerParts parts;
    parts.model = std::make_unique<NullModel>();
    parts.kv_bytes_max = kBlocks;
    worker_ = worker::make_worker(std::move(parts));
    if (!worker_->allocate_kv(kBlocks).ok()) std::abort();
    for (uint32_t i = 0; i < sequences; ++i) add(i);
  }

  StepTime step() {
    const Instant begin = now();
    bytes_.clear();
    wire::pack(*scheduler_.schedule(Instant{}), bytes_);
    const Instant sent = now();
    const auto input = or_die(wire::unpack<wire::StepInput>(bytes_));
    const auto result = or_die(worker_->execute(input));
    bytes_.clear();
    wire::pack(result, bytes_);
    const Instant answered = now();
    auto unpacked = or_die(wire::unpack<wire::StepResult>(bytes_));
    if (!scheduler_.on_result(unpacked, Instant{}, outputs_).ok()) std::abort();
    outputs_.take(kFront, message_.outputs);
    bytes_.clear();
    wire::pack(message_, bytes_);
    const Instant end = now();
    return {.engine = (sent - begin) + (end - answered),
            .worker = answered - sent,
            .total = end - begin};
  }
  [[nodiscard]] std::size_t outputs_of_last() const { return message_.outputs.size(); }

 private:
  static engine::SchedulerConfig config(uint32_t sequences) {
    engine::SchedulerConfig config;
    config.sequences_max = sequences;
    config.model_tokens_max = 1 << 20;
    config.kv.block_count = kBlocks;
    return config;
  }
  void add(uint32_t key) {
    wire::AddRequest request;
    request.key = RequestKey{key};
    request.prompt_token_ids.assign(100, static_cast<int32_t>(key % NullModel::kVocabulary));
    request.cache_salt = std::to_string(key);  // Nobody shares blocks.
    request.sampling.temperature = 0;
    request.sampling.output_tokens_max = 1 << 20;
    request.sampling.eos_token_ids = {2};
    scheduler_.add(kFront, request, Instant{}, outputs_);
  }

  engine::Scheduler scheduler_;
  std::unique_ptr<worker::Worker> worker_;
  engine::StepOutputs outputs_;
  wire::EngineOutputs message_;
  wire::Buffer bytes_;
};

void measure(uint32_t sequences) {
  Rank rank(sequences);
  for (int i = 0; i < kWarmSteps; ++i) (void)rank.step();
  if (rank.outputs_of_last() != sequences) {
    std::fprintf(stderr, "step_bench: %zu of %u sequences decode\n", rank.outputs_of_last(),
                 sequences);
    std::exit(EXIT_FAILURE);
  }
  std::array<std::vector<Duration>, 3> times;
  for (int i = 0; i < kSteps; ++i) {
    const StepTime time = rank.step();
    times[0].push_back(time.engine);
    times[1].push_back(time.worker);
    times[2].push_back(time.total);
  }
  constexpr const char* kParts[] = {"engine", "worker", "total"};
  for (std::size_t i = 0; i < times.size(); ++i) {
    const std::string name = absl::StrFormat("step.%s_%u_us", kParts[i], sequences);
    bench::print_figure(name.c_str(), bench::microseconds(bench::percentile(times[i], 0.5)), "us");
  }
}

}  // namespace
}  // namespace trireme

int main() {
  trireme::measure(64);
  trireme::measure(256);
}
