// How a step's result is taken in: see scheduler.h.
#include <algorithm>
#include <iterator>

#include "common/check.h"
#include "engine_core/scheduler.h"

namespace trireme::engine {

Status Scheduler::on_result(wire::StepResult& result, Instant now, StepOutputs& out) {
  TRIREME_RETURN_IF_ERROR(check_result(result));
  InFlight& step = in_flight_[in_flight_first_];
  row_logprobs_.assign(step.rows.size(), nullptr);
  for (wire::RowLogprobs& logprobs : result.logprobs) row_logprobs_[logprobs.row] = &logprobs;
  row_pooled_.assign(step.rows.size(), nullptr);
  for (wire::PooledRow& pooled : result.pooled) row_pooled_[pooled.row] = &pooled;
  in_flight_first_ = (in_flight_first_ + 1) % config_.steps_in_flight_max;
  --in_flight_count_;
  take_store_losses(result);
  std::span<const int32_t> named = result.accepted_tokens;  // By a draft model.
  for (std::size_t i = 0; i < step.rows.size(); ++i) {
    const Row& row = step.rows[i];
    const uint32_t accepted = result.row_accepted.empty() ? 0 : result.row_accepted[i];
    std::span<const int32_t> drafts = std::span(step.drafts).subspan(row.draft_begin);
    if (has_draft_model()) {
      drafts = named;
      named = named.subspan(accepted);
    }
    // Ended while the step was in flight, or begun anew: nobody wants the row.
    if (row.request->serial != row.serial || row.request->restarts != row.restarts) continue;
    row_tokens_.assign(drafts.begin(), drafts.begin() + accepted);
    row_tokens_.push_back(result.row_token[i]);
    count_drafts(row, accepted);
    take_row(row, row_tokens_, row_logprobs_[i], row_pooled_[i], now, out);
  }
  return absl::OkStatus();
}

Status Scheduler::check_result(const wire::StepResult& result) const {
  if (!result.error.empty()) {
    return error(StatusCode::kUnavailable, "step %u: %s", result.step.value, result.error);
  }
  if (in_flight_count_ == 0) {
    return error(StatusCode::kDataLoss, "result of step %u, but none is in flight",
                 result.step.value);
  }
  const InFlight& step = in_flight_[in_flight_first_];
  if (result.step != step.step) {
    return error(StatusCode::kDataLoss, "result of step %u where %u belongs", result.step.value,
                 step.step.value);
  }
  if (result.row_token.size() != step.rows.size()) {
    return error(StatusCode::kDataLoss, "result of step %u has %u rows, the step had %u",
                 result.step.value, result.row_token.size(), step.rows.size());
  }
  for (std::size_t i = 0; i < step.rows.size(); ++i) {
    const Row& row = step.rows[i];
    if (row.samples && !row.pools && result.row_token[i] == wire::kNoToken) {
      return error(StatusCode::kDataLoss, "result of step %u lacks the token of row %u",
                   result.step.value, i);
    }
  }
  TRIREME_RETURN_IF_ERROR(check_side_rows(result, step.rows.size()));
  return check_accepted(result, step);
}

Status Scheduler::check_side_rows(const wire::StepResult& result, std::size_t row_count) const {
  for (const wire::RowLogprobs& logprobs : result.logprobs) {
    if (logprobs.row >= row_count) {
      return error(StatusCode::kDataLoss, "result of step %u has logprobs of row %u of %u",
                   result.step.value, logprobs.row, row_count);
    }
  }
  for (const wire::PooledRow& pooled : result.pooled) {
    if (pooled.row >= row_count) {
      return error(StatusCode::kDataLoss, "result of step %u has a vector of row %u of %u",
                   result.step.value, pooled.row, row_count);
    }
  }
  for (const uint32_t slot : result.lost_slots) {
    if (slot >= config_.kv.store_slot_count) {
      return error(StatusCode::kDataLoss, "result of step %u lost slot %u of a store of %u",
                   result.step.value, slot, config_.kv.store_slot_count);
    }
  }
  return absl::OkStatus();
}

void Scheduler::take_store_losses(const wire::StepResult& result) {
  for (const uint32_t slot : result.lost_slots) kv_.lose_slot(slot);
  counters_.store_lost_blocks += result.lost_slots.size();
  if (result.failed_load_count == 0) return;
  kv_.forget_since(result.step);
  for (const auto& request : requests_) {
    if (request->serial != 0 && request->blocks.newest_found >= result.step) restart(*request);
  }
}

// It may be waiting already: then what its rows in flight give is as wrong.
void Scheduler::restart(Request& request) {
  if (request.is_running) preempt(request);
  request.pending = 0;
  ++request.restarts;
  if (!request.had_output) request.cached_prompt_tokens = 0;
}

void Scheduler::take_row(const Row& row, std::span<const int32_t> tokens,
                         wire::RowLogprobs* logprobs, wire::PooledRow* pooled, Instant now,
                         StepOutputs& out) {
  Request& request = *row.request;
  const bool is_bad = tokens.back() == wire::kBadLogits;
  if (is_bad) tokens = tokens.first(tokens.size() - 1);
  if (is_bad && tokens.empty()) return fail_bad_logits(request, out);
  const bool has_prompt_logprobs = logprobs != nullptr && !logprobs->prompt.empty() &&
                                   request.prompt_logprobs_sent < request.prompt_logprobs_wanted();
  if (!row.samples && !has_prompt_logprobs) return;

  wire::EngineOutput& output = out.add(request.front_end, request.key);
  if (has_prompt_logprobs) take_prompt_logprobs(request, row, *logprobs, output);
  if (!request.had_output) {
    request.had_output = true;
    output.cached_prompt_tokens = request.cached_prompt_tokens;
    output.queue_microseconds = request.queue_microseconds;
  }
  output.preemptions = request.preemptions;
  if (!row.samples) return;

  --request.pending;
  if (request.output_count() == 0) {
    counters_.prompt_tokens += request.prompt_count;
    output.prefill_microseconds = microseconds32(now - request.admitted_at);
  }
  if (row.pools) return take_pooled(request, pooled, output, out);
  take_tokens(request, tokens, logprobs, output);
  if (output.finish_reason != wire::FinishReason::kNone) return end(request);
  if (is_bad) return fail_bad_logits(request, out);
  // Of the drafts' KV that of the accepted ones is good. Who was preempted meanwhile has none.
  if (request.is_running) request.computed += static_cast<uint32_t>(tokens.size()) - 1;
  const uint32_t filled = std::min(request.computed, request.known_count());
  kv_.publish(request.blocks, std::span(request.tokens).first(filled), request.cache_salt);
}

// Until one of them ends the request: those after it, plain decoding would not have made.
void Scheduler::take_tokens(Request& request, std::span<const int32_t> tokens,
                            wire::RowLogprobs* logprobs, wire::EngineOutput& output) {
  if (request.sampling.output_tokens_max == 0) {  // Only the prompt was asked for.
    output.finish_reason = wire::FinishReason::kLength;
    return;
  }
  for (const int32_t token : tokens) {
    if (!request.is_running) ++waiting_tokens_;
    request.tokens.push_back(token);
    ++counters_.generation_tokens;
    output.token_ids.push_back(token);
    const Finish finish = check_finish(request.sampling, request.tokens, request.prompt_count,
                                       config_.model_tokens_max);
    output.finish_reason = finish.reason;
    output.stop_token_id = finish.stop_token_id;
    if (finish.reason != wire::FinishReason::kNone) break;
  }
  if (logprobs == nullptr) return;
  output.logprobs.swap(logprobs->sampled);
  if (output.logprobs.size() > output.token_ids.size()) {
    output.logprobs.resize(output.token_ids.size());
  }
}

void Scheduler::take_pooled(Request& request, wire::PooledRow* pooled, wire::EngineOutput& output,
                            StepOutputs& out) {
  if (pooled == nullptr) {
    return fail(request, error(StatusCode::kInternal, "The worker gave no vector."), out);
  }
  output.finish_reason = wire::FinishReason::kStop;
  output.pooled.swap(pooled->values);
  end(request);
}

void Scheduler::fail_bad_logits(Request& request, StepOutputs& out) {
  kv_.discard(request.blocks);
  ++counters_.corrupted_requests;
  fail(request,
       error(StatusCode::kInternal, "The model's output for this request is not a number."), out);
}

// Computed again after preemption, a prompt gives its logprobs again, cut elsewhere.
void Scheduler::take_prompt_logprobs(Request& request, const Row& row, wire::RowLogprobs& logprobs,
                                     wire::EngineOutput& output) {
  for (std::size_t i = 0; i < logprobs.prompt.size(); ++i) {
    const std::size_t position = row.start + i;
    if (position != request.prompt_logprobs_sent) continue;
    if (position >= request.prompt_logprobs_wanted()) return;
    output.prompt_logprobs.push_back(std::move(logprobs.prompt[i]));
    ++request.prompt_logprobs_sent;
  }
}

void Scheduler::fail(Request& request, const Status& why, StepOutputs& out) {
  wire::EngineOutput& output = out.add(request.front_end, request.key);
  output.finish_reason = wire::FinishReason::kError;
  output.error = std::string(why.message());
  output.error_code = static_cast<uint8_t>(why.code());
  end(request);
}

}  // namespace trireme::engine
