#include "api_server/openai/embedding_call.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "api_server/field_error.h"
#include "api_server/openai/status_reply.h"
#include "common/json_text.h"
#include "common/log.h"

namespace trireme::api {
namespace {

// Of bytes in the machine's order, which is the wire's.
void append_base64(std::string& out, std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(values);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (k < count ? static_cast<uint32_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= count ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
}

// Each as short as it can be and still be read back as the same float.
void append_floats(std::string& out, std::span<const float> values) {
  char text[32];
  out += '[';
  for (const float value : values) {
    if (out.back() != '[') out += ',';
    out.append(text, std::to_chars(text, text + sizeof(text), value).ptr);
  }
  out += ']';
}

}  // namespace

void cut_and_normalise(std::vector<float>& vector, uint32_t dimensions, bool normalises) {
  if (dimensions > 0 && dimensions < vector.size()) vector.resize(dimensions);
  if (!normalises) return;
  double sum = 0;
  for (const float value : vector) sum += static_cast<double>(value) * value;
  if (sum == 0) return;
  const double length = std::sqrt(sum);
  for (float& value : vector) value = static_cast<float>(value / length);
}

void EmbeddingCall::start(CallContext& context, std::shared_ptr<Exchange> exchange,
                          EmbeddingRequest request, std::string model, const PoolerInfo& pooler,
                          std::optional<uint32_t> pinned_rank) {
  const auto call = std::make_shared<EmbeddingCall>(
      context, std::move(exchange), std::move(request), std::move(model), pooler, pinned_rank);
  call->exchange_->on_disconnect([weak = std::weak_ptr(call)] {
    if (const auto self = weak.lock()) self->cancel();
  });
  if (const Status status = call->check_dimensions(); !status.ok()) {
    call->finish_with(status_reply(status));
    return;
  }
  call->encode();
}

EmbeddingCall::EmbeddingCall(CallContext& context, std::shared_ptr<Exchange> exchange,
                             EmbeddingRequest request, std::string model, const PoolerInfo& pooler,
                             std::optional<uint32_t> pinned_rank)
    : context_(context),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      model_(std::move(model)),
      pooler_(pooler),
      pinned_rank_(pinned_rank),
      arrived_(now()) {}

Status EmbeddingCall::check_dimensions() const {
  if (!request_.dimensions) return {};
  const uint32_t wanted = *request_.dimensions;
  if (!pooler_.can_be_cut) {
    return coded_field_error(
        StatusCode::kInvalidArgument, "dimensions",
        absl::StrFormat("Model \"%s\" does not support matryoshka representation (is_matryoshka "
                        "in its config.json), so its %u dimensions cannot be changed.",
                        model_, pooler_.dimensions));
  }
  const auto& cuts = pooler_.cuts;
  if (wanted > pooler_.dimensions) {
    return field_error("dimensions",
                       absl::StrFormat("the model has %u, got %u", pooler_.dimensions, wanted));
  }
  if (cuts.empty() || std::find(cuts.begin(), cuts.end(), wanted) != cuts.end()) return {};
  std::string list;
  for (const uint32_t cut : cuts) list += (list.empty() ? "" : ", ") + std::to_string(cut);
  return field_error("dimensions", absl::StrFormat("must be one of %s, got %u", list, wanted));
}

void EmbeddingCall::encode() {
  std::vector<std::string> texts;
  for (Prompt& input : request_.inputs) {
    if (!input.is_tokens) texts.push_back(std::move(input.text));
  }
  // What every text gets, to tell it from what is cut.
  texts.emplace_back();
  context_.encoder.encode(std::move(texts), request_.add_special_tokens,
                          [self = shared_from_this()](StatusOr<EncodePool::Ids> ids) {
                            if (self->has_finished_) return;
                            if (!ids.ok()) {
                              self->finish_with(status_reply(ids.status()));
                              return;
                            }
                            auto next = ids->begin();
                            for (Prompt& input : self->request_.inputs) {
                              if (!input.is_tokens) input.token_ids = std::move(*next++);
                            }
                            self->truncate(ids->back());
                            self->submit();
                          });
}

void EmbeddingCall::truncate(std::span<const int32_t> specials) {
  if (!request_.truncate_prompt_tokens) return;
  const int32_t wanted = *request_.truncate_prompt_tokens;
  const std::size_t keep = wanted > 0
                               ? static_cast<std::size_t>(wanted)
                               : std::max<std::size_t>(context_.engines.model_tokens_max(), 1);
  for (Prompt& input : request_.inputs) {
    auto& ids = input.token_ids;
    if (ids.size() <= keep) continue;
    const auto surplus = static_cast<std::ptrdiff_t>(ids.size() - keep);
    if (input.is_tokens) {  // As vLLM: of token ids the last ones stay.
      ids.erase(ids.begin(), ids.begin() + surplus);
      continue;
    }
    const auto same = std::mismatch(ids.rbegin(), ids.rend(), specials.rbegin(), specials.rend());
    const auto tail =
        std::min<std::ptrdiff_t>(same.first - ids.rbegin(), static_cast<std::ptrdiff_t>(keep));
    ids.erase(ids.end() - tail - surplus, ids.end() - tail);
  }
}

void EmbeddingCall::submit() {
  std::vector<wire::AddRequest> requests;
  requests.reserve(request_.inputs.size());
  parts_.reserve(request_.inputs.size());
  Status status;
  for (const Prompt& input : request_.inputs) {
    status = check_input(input);
    if (!status.ok()) break;
    requests.push_back(add_request(input));
    parts_.push_back({.meter = ChoiceMeter(arrived_, input.token_ids.size())});
  }
  if (status.ok()) {
    status = context_.engines.submit(std::move(requests), shared_from_this(), pinned_rank_, keys_);
  }
  if (!status.ok()) finish_with(status_reply(status));
}

Status EmbeddingCall::check_input(const Prompt& input) const {
  const std::size_t size = input.token_ids.size();
  if (size == 0) return field_error("input", "has no tokens");
  for (const int32_t id : input.token_ids) {
    if (static_cast<uint32_t>(id) >= context_.vocabulary_size) {
      return field_error("input", absl::StrFormat("token id %d is out of the vocabulary of %u", id,
                                                  context_.vocabulary_size));
    }
  }
  const uint32_t model_max = context_.engines.model_tokens_max();
  if (model_max == 0 || size <= model_max) return {};
  return coded_field_error(
      StatusCode::kInvalidArgument, "input",
      absl::StrFormat("This model's maximum context length is %u tokens. However, you requested %u "
                      "tokens in the input for embedding generation. Please reduce the length of "
                      "the input.",
                      model_max, size));
}

wire::AddRequest EmbeddingCall::add_request(const Prompt& input) const {
  wire::AddRequest add;
  add.request_id = exchange_->id();
  add.prompt_token_ids = input.token_ids;
  add.sampling.output_tokens_max = 0;
  add.sampling.pooling = pooler_.pooling;
  add.priority = request_.priority;
  return add;
}

void EmbeddingCall::cancel() {
  has_finished_ = true;
  context_.engines.abort(keys_);
  context_.metrics.finished[static_cast<std::size_t>(wire::FinishReason::kAbort)] +=
      parts_.size() - ended_;
}

void EmbeddingCall::take(uint32_t index, wire::EngineOutput& output) {
  if (has_finished_) return;
  if (output.finish_reason == wire::FinishReason::kError) {
    log::warning("engine_error", {{"request_id", exchange_->id()}, {"reason", output.error}});
    finish_with(status_reply(engine_status(output)));
    return;
  }
  Part& part = parts_[index];
  part.meter.take(output, now(), context_.metrics);
  if (output.finish_reason == wire::FinishReason::kNone) return;
  if (output.pooled.empty()) {
    // It was aborted by the engine's end, or the engine is of a release that does not pool.
    finish_with(status_reply(
        error(StatusCode::kUnavailable, "the engine gave no vector for this input; try again")));
    return;
  }
  part.vector.swap(output.pooled);
  cut_and_normalise(part.vector, request_.dimensions.value_or(0),
                    request_.normalize.value_or(pooler_.normalises));
  part.meter.end(output.finish_reason, 0, now(), context_.metrics);
  if (++ended_ == parts_.size()) finish();
}

void EmbeddingCall::fail(uint32_t, const Status& status) {
  if (!has_finished_) finish_with(status_reply(status));
}

void EmbeddingCall::finish() {
  has_finished_ = true;
  ++context_.metrics.replies[200];
  exchange_->reply({.body = answer()});
}

void EmbeddingCall::finish_with(const HttpReply& reply) {
  has_finished_ = true;
  context_.engines.abort(keys_);
  context_.metrics.finished[static_cast<std::size_t>(wire::FinishReason::kError)] +=
      keys_.empty() ? 0 : parts_.size() - ended_;
  ++context_.metrics.replies[reply.status];
  exchange_->reply(reply);
}

std::string EmbeddingCall::answer() const {
  std::string out = R"({"id":)";
  append_json_string(out, "embd-" + exchange_->id());
  absl::StrAppendFormat(&out, R"(,"object":"list","created":%d,"model":)",
                        unix_milliseconds() / 1000);
  append_json_string(out, model_);
  out += R"(,"data":[)";
  uint64_t tokens = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    tokens += request_.inputs[i].token_ids.size();
    absl::StrAppendFormat(&out, R"(%s{"index":%u,"object":"embedding","embedding":)",
                          i == 0 ? "" : ",", i);
    if (request_.as_base64) {
      out += '"';
      append_base64(out, parts_[i].vector);
      out += '"';
    } else {
      append_floats(out, parts_[i].vector);
    }
    out += '}';
  }
  absl::StrAppendFormat(&out,
                        R"(],"usage":{"prompt_tokens":%u,"total_tokens":%u,"completion_tokens":0,)"
                        R"("prompt_tokens_details":null}})",
                        tokens, tokens);
  return out;
}

}  // namespace trireme::api
