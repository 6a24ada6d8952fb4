// Sample: what became of one request, as the client saw it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/clock.h"

namespace trireme::bench {

enum class SampleState : uint8_t { kUnfinished, kCompleted, kFailed };

struct Sample {
  SampleState state = SampleState::kUnfinished;
  Instant start{};             // When it was sent (connecting, where that was needed, included).
  Duration queue_time{};       // Before that: how long --max-concurrency held it back.
  Duration ttft{};             // To the first piece of text.
  std::vector<Duration> itls;  // From each piece to the next.
  Duration latency{};          // To the end of the answer.
  uint32_t prompt_tokens = 0;  // As planned; the server's count where it gives one.
  uint32_t output_tokens = 0;  // The server's count; pieces where it gives none.
  std::string error;           // kFailed: why, one line.
};

}  // namespace trireme::bench
