#include "api_server/openai/choice.h"

#include <utility>

#include "common/json_text.h"

namespace trireme::api {

void ChoiceDelta::append(const ChoiceDelta& next) {
  text += next.text;
  logprobs.append(next.logprobs);
  if (!prompt_logprobs.empty() && !next.prompt_logprobs.empty()) prompt_logprobs += ',';
  prompt_logprobs += next.prompt_logprobs;
  token_ids.insert(token_ids.end(), next.token_ids.begin(), next.token_ids.end());
  if (next.finish_reason != wire::FinishReason::kNone) {
    finish_reason = next.finish_reason;
    stop_reason_json = next.stop_reason_json;
  }
}

void ChoiceDelta::clear() {
  text.clear();
  logprobs.clear();
  prompt_logprobs.clear();
  token_ids.clear();
  finish_reason = wire::FinishReason::kNone;
  stop_reason_json = "null";
}

std::string_view finish_reason_json(wire::FinishReason reason) {
  switch (reason) {
    case wire::FinishReason::kStop:
      return "\"stop\"";
    case wire::FinishReason::kLength:
      return "\"length\"";
    case wire::FinishReason::kAbort:
      return "\"abort\"";
    case wire::FinishReason::kError:
      return "\"error\"";
    case wire::FinishReason::kNone:
      break;
  }
  return "null";
}

Choice::Choice(const GenerateRequest& request, const text::Tokenizer& tokenizer,
               const std::vector<int32_t>& prompt_token_ids, std::string echo)
    : request_(request),
      tokenizer_(tokenizer),
      shape_{.is_chat = request.is_chat,
             .tokens_as_ids = request.tokens_as_ids,
             .top = request.top_logprobs},
      detokenizer_(tokenizer,
                   {.skip_special_tokens = request.skip_special_tokens,
                    .spaces_between_special_tokens = request.spaces_between_special_tokens}),
      echo_(std::move(echo)),
      first_prompt_token_(prompt_token_ids.empty() ? 0 : prompt_token_ids.front()),
      drops_output_(request.output_tokens_max == 0U) {
  if (!request.stop.empty()) stops_.emplace(request.stop, request.include_stop_in_output);
}

bool Choice::take(const wire::EngineOutput& output, ChoiceDelta& delta) {
  if (has_ended_) return false;
  take_prompt(output, delta);
  for (std::size_t i = 0; i < output.token_ids.size() && !has_ended_; ++i) {
    if (!drops_output_) take_token(output, i, delta);
  }
  if (has_ended_) return output.finish_reason == wire::FinishReason::kNone;
  if (output.finish_reason != wire::FinishReason::kNone) finish(output, delta);
  return false;
}

void Choice::take_prompt(const wire::EngineOutput& output, ChoiceDelta& delta) {
  const bool echoes_logprobs = request_.echo && request_.wants_logprobs;
  if (!std::exchange(has_begun_, true)) {
    delta.text += std::exchange(echo_, {});
    if (echoes_logprobs) {
      delta.logprobs.add_unknown(tokenizer_, shape_, first_prompt_token_, offset_);
    }
    if (request_.prompt_logprobs) delta.prompt_logprobs = "null";
  }
  for (const wire::TokenLogprobs& token : output.prompt_logprobs) {
    if (echoes_logprobs) delta.logprobs.add(tokenizer_, shape_, token, offset_);
    if (!request_.prompt_logprobs) continue;
    if (!delta.prompt_logprobs.empty()) delta.prompt_logprobs += ',';
    append_prompt_logprobs(delta.prompt_logprobs, tokenizer_, token);
  }
}

void Choice::take_token(const wire::EngineOutput& output, std::size_t i, ChoiceDelta& delta) {
  const int32_t id = output.token_ids[i];
  ++completion_tokens_;
  if (request_.return_token_ids) delta.token_ids.push_back(id);
  if (request_.wants_logprobs && i < output.logprobs.size()) {
    delta.logprobs.add(tokenizer_, shape_, output.logprobs[i], offset_);
  }
  // The token that ended it (EOS, a stop token) is counted, and shows only if asked for.
  const bool is_stop_token =
      output.finish_reason == wire::FinishReason::kStop && i + 1 == output.token_ids.size();
  if (is_stop_token && !request_.include_stop_in_output) return;
  take_text(detokenizer_.push(id), delta);
}

void Choice::take_text(std::string_view text, ChoiceDelta& delta) {
  // Stop strings count from min_tokens on.
  if (!stops_ || completion_tokens_ <= request_.sampling.output_tokens_min) {
    delta.text += text;
    return;
  }
  delta.text += stops_->push(text);
  const std::optional<size_t> stopped = stops_->stopped();
  if (!stopped) return;
  has_ended_ = true;
  delta.finish_reason = wire::FinishReason::kStop;
  delta.stop_reason_json.clear();
  append_json_string(delta.stop_reason_json, stops_->stop(*stopped));
}

void Choice::finish(const wire::EngineOutput& output, ChoiceDelta& delta) {
  if (!drops_output_) {
    take_text(detokenizer_.flush(), delta);
    if (has_ended_) return;
    if (stops_) delta.text += stops_->flush();
  }
  has_ended_ = true;
  delta.finish_reason = drops_output_ ? wire::FinishReason::kLength : output.finish_reason;
  if (output.stop_token_id && !drops_output_) {
    delta.stop_reason_json = std::to_string(*output.stop_token_id);
  }
}

}  // namespace trireme::api
