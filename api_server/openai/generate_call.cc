#include "api_server/openai/generate_call.h"

#include <algorithm>

#include "api_server/field_error.h"
#include "api_server/openai/sampling_checks.h"
#include "api_server/openai/status_reply.h"
#include "common/log.h"

namespace trireme::api {
namespace {

constexpr std::size_t kBadWordTokensMax = 1024;

Status check_sampling(const wire::AddRequest& request) {
  TRIREME_RETURN_IF_ERROR(check_output_fits(request.sampling));
  TRIREME_RETURN_IF_ERROR(check_some_token_allowed(request.sampling));
  return check_logprobs_bound(request.sampling, request.prompt_token_ids.size());
}

}  // namespace

void GenerateCall::start(CallContext& context, std::shared_ptr<Exchange> exchange,
                         GenerateRequest request, std::string_view model,
                         std::optional<uint32_t> pinned_rank) {
  const auto call = std::make_shared<GenerateCall>(context, std::move(exchange), std::move(request),
                                                   model, pinned_rank);
  call->exchange_->on_disconnect([weak = std::weak_ptr(call)] {
    if (const auto self = weak.lock()) self->cancel();
  });
  call->encode();
}

GenerateCall::GenerateCall(CallContext& context, std::shared_ptr<Exchange> exchange,
                           GenerateRequest request, std::string_view model,
                           std::optional<uint32_t> pinned_rank)
    : context_(context),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      pinned_rank_(pinned_rank),
      arrived_(now()),
      reply_text_({.is_chat = request_.is_chat,
                   .id = exchange_->id(),
                   .created = unix_milliseconds() / 1000,
                   .model = model,
                   .role = context.response_role,
                   .with_token_ids = request_.return_token_ids}) {}

void GenerateCall::encode() {
  std::vector<std::string> texts;
  for (Prompt& prompt : request_.prompts) {
    if (prompt.is_tokens) continue;
    if (const Status status = check_text(prompt.text); !status.ok()) {
      finish_with(status_reply(status));
      return;
    }
    // The text is needed again only to be echoed.
    texts.push_back(request_.echo ? prompt.text : std::move(prompt.text));
  }
  if (texts.empty()) {
    submit();
    return;
  }
  context_.encoder.encode(std::move(texts), request_.add_special_tokens,
                          [self = shared_from_this()](StatusOr<EncodePool::Ids> ids) {
                            if (self->has_finished_) return;
                            if (!ids.ok()) {
                              self->finish_with(status_reply(ids.status()));
                              return;
                            }
                            auto next = ids->begin();
                            for (Prompt& prompt : self->request_.prompts) {
                              if (!prompt.is_tokens) prompt.token_ids = std::move(*next++);
                            }
                            self->submit();
                          });
}

void GenerateCall::submit() {
  std::vector<wire::AddRequest> requests;
  Status status = prepare(requests);
  if (status.ok()) {
    status = context_.engines.submit(std::move(requests), shared_from_this(), pinned_rank_, keys_);
  }
  if (!status.ok()) finish_with(status_reply(status));
}

Status GenerateCall::prepare(std::vector<wire::AddRequest>& requests) {
  TRIREME_RETURN_IF_ERROR(encode_bad_words());
  const std::size_t count = request_.prompts.size() * request_.n;
  requests.reserve(count);
  parts_.reserve(count);
  for (Prompt& prompt : request_.prompts) {
    TRIREME_RETURN_IF_ERROR(check_prompt(prompt));
    std::string echo;
    if (request_.echo && prompt.is_tokens) {
      TRIREME_ASSIGN_OR_RETURN(echo, context_.tokenizer.decode(prompt.token_ids, false));
    } else if (request_.echo) {
      echo = prompt.text;
    }
    for (uint32_t i = 0; i < request_.n; ++i) {
      requests.push_back(add_request(prompt, i));
      if (i == 0) TRIREME_RETURN_IF_ERROR(check_sampling(requests.back()));
      parts_.push_back({.choice = Choice(request_, context_.tokenizer, prompt.token_ids, echo),
                        .meter = ChoiceMeter(arrived_, prompt.token_ids.size())});
    }
  }
  return {};
}

// A text that is too long whatever its tokens are is not worth a tokenizer's time.
Status GenerateCall::check_text(std::string_view text) const {
  const uint32_t model_max = context_.engines.model_tokens_max();
  if (request_.truncate_prompt_tokens || model_max == 0) return {};
  const std::size_t tokens_min = text.size() / std::max<std::size_t>(1, context_.token_bytes_max);
  if (tokens_min <= model_max) return {};
  return coded_field_error(
      StatusCode::kInvalidArgument, field_name(),
      absl::StrFormat("This model's maximum context length is %u tokens. However, your %s has %u "
                      "bytes, which are at least %u tokens. Please reduce its length.",
                      model_max, field_name(), text.size(), tokens_min));
}

Status GenerateCall::check_prompt(Prompt& prompt) const {
  const char* const field = field_name();
  const uint32_t model_max = context_.engines.model_tokens_max();
  if (request_.truncate_prompt_tokens) {
    const int32_t wanted = *request_.truncate_prompt_tokens;
    const uint32_t output = request_.output_tokens_max.value_or(1);
    const std::size_t keep = wanted > 0           ? static_cast<std::size_t>(wanted)
                             : model_max > output ? model_max - output
                                                  : 1;
    auto& ids = prompt.token_ids;
    if (ids.size() > keep) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(keep));
  }
  const std::size_t size = prompt.token_ids.size();
  if (size == 0) return field_error(field, "has no tokens");
  for (const int32_t id : prompt.token_ids) {
    if (static_cast<uint32_t>(id) >= context_.vocabulary_size) {
      return field_error(field, absl::StrFormat("token id %d is out of the vocabulary of %u", id,
                                                context_.vocabulary_size));
    }
  }
  const uint32_t output = std::max(request_.output_tokens_max.value_or(1), 1U);
  if (model_max == 0 || size + output <= model_max) return {};
  if (!request_.output_tokens_max) {
    return coded_field_error(
        StatusCode::kInvalidArgument, field,
        absl::StrFormat("This model's maximum context length is %u tokens. However, your %s has %u "
                        "tokens, which leaves no room for an answer. Please reduce its length.",
                        model_max, field, size));
  }
  return coded_field_error(
      StatusCode::kInvalidArgument, field,
      absl::StrFormat(
          "This model's maximum context length is %u tokens. However, you requested %u "
          "tokens (%u in the %s, %u in the completion). Please reduce the length of the "
          "%s or completion.",
          model_max, size + output, size, field, output, field));
}

wire::AddRequest GenerateCall::add_request(const Prompt& prompt, uint32_t index) {
  wire::AddRequest add;
  add.request_id = exchange_->id();
  add.prompt_token_ids = prompt.token_ids;
  add.sampling = request_.sampling;
  add.sampling.seed = request_.seed ? *request_.seed + index : context_.random.next();
  add.sampling.eos_token_ids = context_.eos_token_ids;
  const uint32_t model_max = context_.engines.model_tokens_max();
  const auto room = static_cast<uint32_t>(model_max > 0 ? model_max - prompt.token_ids.size()
                                                        : std::numeric_limits<int32_t>::max());
  add.sampling.output_tokens_max =
      std::max(1U, request_.output_tokens_max.value_or(
                       std::min(request_.output_tokens_default.value_or(room), room)));
  add.priority = request_.priority;
  add.cache_salt = request_.cache_salt;
  context_.metrics.params_tokens_max.observe(add.sampling.output_tokens_max);
  return add;
}

// A word may begin a text or follow a space, and is another token sequence then.
Status GenerateCall::encode_bad_words() {
  std::size_t total = 0;
  for (const std::string& word : request_.bad_words) {
    for (const std::string& form : {word, " " + word}) {
      TRIREME_ASSIGN_OR_RETURN(auto ids, context_.tokenizer.encode(form, false));
      total += ids.size();
      if (!ids.empty()) request_.sampling.bad_words.push_back({.token_ids = std::move(ids)});
    }
    if (total > kBadWordTokensMax) {
      return field_error("bad_words", absl::StrFormat("more than %u tokens", kBadWordTokensMax));
    }
  }
  return {};
}

void GenerateCall::cancel() {
  has_finished_ = true;
  context_.engines.abort(keys_);
  context_.metrics.finished[static_cast<std::size_t>(wire::FinishReason::kAbort)] +=
      parts_.size() - ended_;
}

void GenerateCall::take(uint32_t index, wire::EngineOutput& output) {
  if (has_finished_) return;
  Part& part = parts_[index];
  if (output.finish_reason == wire::FinishReason::kError) {
    log::warning("engine_error", {{"request_id", exchange_->id()}, {"reason", output.error}});
    finish_with(status_reply(engine_status(output)));
    return;
  }
  part.meter.take(output, now(), context_.metrics);
  delta_.clear();
  const bool must_abort = part.choice.take(output, delta_);
  if (must_abort) context_.engines.abort(std::span(&keys_[index], 1));
  if (!request_.stream) {
    part.joined.append(delta_);
  } else if (request_.stream_interval > 1) {
    hold_delta(index);
  } else {
    send_delta(index, delta_);
  }
  if (part.choice.has_ended()) end_choice(index, delta_.finish_reason);
}

// Sends what is held when there is enough of it; the first token goes at once.
void GenerateCall::hold_delta(uint32_t index) {
  Part& part = parts_[index];
  part.joined.append(delta_);
  const uint32_t tokens = part.choice.completion_tokens();
  const bool is_due = part.is_first_chunk || part.choice.has_ended() ||
                      tokens - part.sent_tokens >= request_.stream_interval;
  if (!is_due) return;
  send_delta(index, part.joined);
  part.joined.clear();
  part.sent_tokens = tokens;
}

void GenerateCall::send_delta(uint32_t index, const ChoiceDelta& delta) {
  if (!delta.is_worth_sending()) return;
  Part& part = parts_[index];
  std::string& out = context_.chunk;
  out.clear();
  if (!exchange_->has_begun()) {
    ++context_.metrics.replies[200];
    exchange_->begin_events();
  }
  const std::vector<int32_t>* prompt = nullptr;
  if (part.is_first_chunk) {
    part.is_first_chunk = false;
    prompt = &prompt_of(index).token_ids;
    if (request_.is_chat) reply_text_.append_role(out, index, *prompt);
  }
  if (request_.continuous_usage) {
    const Usage so_far = usage();
    reply_text_.append_chunk(out, index, delta, &so_far, prompt);
  } else {
    reply_text_.append_chunk(out, index, delta, nullptr, prompt);
  }
  // The last chunk goes out together with the end of the stream.
  const bool is_last =
      delta.finish_reason != wire::FinishReason::kNone && ended_ + 1 == parts_.size();
  if (!is_last) exchange_->send_events(out);
}

void GenerateCall::end_choice(uint32_t index, wire::FinishReason reason) {
  ++ended_;
  const Part& part = parts_[index];
  part.meter.end(reason, part.choice.completion_tokens(), now(), context_.metrics);
  if (ended_ == parts_.size()) finish();
}

// For metrics a prompt is a request, whose n choices are parts of it.
void GenerateCall::measure_prompts() {
  for (std::size_t first = 0; first < parts_.size(); first += request_.n) {
    uint32_t longest = 0;
    for (std::size_t i = first; i < first + request_.n; ++i) {
      longest = std::max(longest, parts_[i].choice.completion_tokens());
    }
    context_.metrics.generation_tokens_max.observe(longest);
    context_.metrics.params_n.observe(request_.n);
  }
}

void GenerateCall::finish() {
  has_finished_ = true;
  measure_prompts();
  if (request_.stream) {
    std::string& out = context_.chunk;  // Holds the last chunk.
    if (request_.include_usage) reply_text_.append_usage(out, usage());
    ReplyText::append_done(out);
    exchange_->send_events(out);
    exchange_->finish();
    return;
  }
  std::vector<ReplyText::WholeChoice> choices;
  choices.reserve(parts_.size());
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    choices.push_back({.joined = parts_[i].joined, .prompt_token_ids = prompt_of(i).token_ids});
  }
  ++context_.metrics.replies[200];
  exchange_->reply({.body = reply_text_.whole(choices, usage())});
}

void GenerateCall::fail(uint32_t, const Status& status) {
  if (!has_finished_) finish_with(status_reply(status));
}

void GenerateCall::finish_with(const HttpReply& reply) {
  has_finished_ = true;
  context_.engines.abort(keys_);
  context_.metrics.finished[static_cast<std::size_t>(wire::FinishReason::kError)] +=
      keys_.empty() ? 0 : parts_.size() - ended_;
  if (exchange_->has_begun()) {
    std::string& out = context_.chunk;
    out.clear();
    ReplyText::append_error(out, reply.body);
    ReplyText::append_done(out);
    exchange_->send_events(out);
    exchange_->finish();
    return;
  }
  ++context_.metrics.replies[reply.status];
  exchange_->reply(reply);
}

Usage GenerateCall::usage() const {
  Usage usage;
  for (const Prompt& prompt : request_.prompts) usage.prompt_tokens += prompt.token_ids.size();
  for (const Part& part : parts_) usage.completion_tokens += part.choice.completion_tokens();
  // A prompt's other choices find what its first one computed.
  for (std::size_t i = 0; i < parts_.size(); i += request_.n) {
    usage.cached_tokens += parts_[i].meter.cached_tokens();
  }
  usage.cached_tokens = std::min(usage.cached_tokens, usage.prompt_tokens);
  return usage;
}

}  // namespace trireme::api
