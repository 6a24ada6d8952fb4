// ChoiceMeter: what the outputs of one choice say to the metrics, as vLLM counts a request.
//
//   arrived ── queue ──▶ first scheduled ── prefill ──▶ first token ── decode ──▶ last token
//                              └───────────────── inference ──────────────────────┘
//
// An embedding ends with its prefill, and its vector stands for the first token.
// Queue and prefill are the engine's own measure; decode and all else is measured here.
// Pure: time comes in. Threads: one owner.
#pragma once

#include <cstdint>

#include "api_server/openai/metrics.h"
#include "common/clock.h"
#include "proto/engine_outputs.h"

namespace trireme::api {

class ChoiceMeter {
 public:
  ChoiceMeter(Instant arrived, std::size_t prompt_tokens)
      : arrived_(arrived), prompt_tokens_(prompt_tokens) {}

  void take(const wire::EngineOutput& output, Instant now, Metrics& metrics);
  // `tokens`: of the answer, which a stop string may have cut.
  void end(wire::FinishReason reason, uint32_t tokens, Instant now, Metrics& metrics) const;
  [[nodiscard]] uint32_t cached_tokens() const { return cached_tokens_; }

 private:
  void take_first(const wire::EngineOutput& output, Instant now, Metrics& metrics);

  Instant arrived_;
  std::size_t prompt_tokens_;
  uint32_t cached_tokens_ = 0;
  uint32_t queue_microseconds_ = 0;
  uint32_t prefill_microseconds_ = 0;
  uint32_t preemptions_ = 0;
  bool had_output_ = false;
  Instant first_token_{};
  Instant last_token_{};
};

}  // namespace trireme::api
