// SimExecutor: no model. A step takes  base + prefill * (prompt tokens) + decode * (decoding
// sequences)  microseconds, and the token after position p is a hash of (seed, p): the same on
// every engine, alone or in company, and when a request is resumed elsewhere.
//
// --sim-profile "base_us=200,prefill_us=2,decode_us=10,vocab=256": each part may be left out.
// Tokens are ids in [0, vocab); none of the request's end or stop tokens is ever chosen, so a
// request ends by its length. Threads: the engine's main thread; none of its own.
#pragma once

#include <deque>
#include <string_view>
#include <unordered_map>

#include "engine_core/executor.h"

namespace trireme::engine {

struct SimProfile {
  double base_us = 200;
  double prefill_us = 2;
  double decode_us = 10;
  uint32_t vocabulary = 256;

  // kInvalidArgument names the part of --sim-profile that is wrong.
  [[nodiscard]] static StatusOr<SimProfile> parse(std::string_view text);
};

class SimExecutor final : public Executor {
 public:
  SimExecutor(const ServeOptions& options, const SimProfile& profile);

  [[nodiscard]] StatusOr<KvCapacity> start(Bell& bell, StopSignal& stop) override;
  [[nodiscard]] Status submit(const wire::StepInput& step, Instant now) override;
  [[nodiscard]] StatusOr<bool> try_collect(wire::StepResult& result, Instant now) override;
  [[nodiscard]] uint32_t steps_in_flight_max() const override { return 2; }
  [[nodiscard]] Instant next_result_at() const override;
  void stop() noexcept override {}

 private:
  struct Pending {
    wire::StepResult result;
    Instant ready_at;
  };
  [[nodiscard]] int32_t next_token(const wire::SamplingParams& sampling, uint32_t position) const;
  void put_logprobs(uint32_t row, const wire::StepInput& step, const wire::NewSequence& sequence,
                    wire::StepResult& result) const;

  ServeOptions options_;
  SimProfile profile_;
  std::unordered_map<uint32_t, wire::NewSequence> sequences_;  // By slot.
  std::deque<Pending> pending_;
  std::vector<wire::StepResult> spent_;  // Their memory is used again.
  Instant busy_until_{};
};

}  // namespace trireme::engine
