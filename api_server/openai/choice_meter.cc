#include "api_server/openai/choice_meter.h"

#include <algorithm>

namespace trireme::api {
namespace {

constexpr double kMicrosecond = 1e-6;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void ChoiceMeter::take(const wire::EngineOutput& output, Instant now, Metrics& metrics) {
  preemptions_ = std::max(preemptions_, output.preemptions);
  if (!had_output_) {  // It may hold log-probabilities of the prompt, and no token yet.
    had_output_ = true;
    cached_tokens_ = output.cached_prompt_tokens;
    queue_microseconds_ = output.queue_microseconds;
  }
  if (output.token_ids.empty() && output.pooled.empty()) return;
  if (last_token_ == Instant{}) {
    take_first(output, now, metrics);
  } else {
    metrics.itl_seconds.observe(seconds(now - last_token_));
  }
  last_token_ = now;
  metrics.generation_tokens_total += output.token_ids.size();
}

void ChoiceMeter::take_first(const wire::EngineOutput& output, Instant now, Metrics& metrics) {
  first_token_ = now;
  prefill_microseconds_ = output.prefill_microseconds;
  metrics.ttft_seconds.observe(seconds(now - arrived_));
  metrics.prompt_tokens_total += prompt_tokens_;
  metrics.prompt_tokens_cached_total += cached_tokens_;
}

void ChoiceMeter::end(wire::FinishReason reason, uint32_t tokens, Instant now,
                      Metrics& metrics) const {
  ++metrics.finished[std::min(static_cast<std::size_t>(reason), metrics.finished.size() - 1)];
  const double decode = seconds(last_token_ - first_token_);
  const double prefill = prefill_microseconds_ * kMicrosecond;
  metrics.e2e_seconds.observe(seconds(now - arrived_));
  metrics.queue_seconds.observe(queue_microseconds_ * kMicrosecond);
  metrics.prefill_seconds.observe(prefill);
  metrics.decode_seconds.observe(decode);
  metrics.inference_seconds.observe(prefill + decode);
  metrics.prompt_tokens.observe(static_cast<double>(prompt_tokens_));
  metrics.prefill_computed_tokens.observe(
      static_cast<double>(prompt_tokens_ - std::min<std::size_t>(cached_tokens_, prompt_tokens_)));
  metrics.generation_tokens.observe(tokens);
  metrics.preemptions.observe(preemptions_);
  if (tokens > 1) metrics.time_per_output_token_seconds.observe(decode / (tokens - 1));
}

}  // namespace trireme::api
