#include "api_server/openai/request_fields.h"

namespace trireme::api {
namespace {

constexpr int64_t kTokensMax = std::numeric_limits<int32_t>::max();
constexpr double kFloatMax = std::numeric_limits<float>::max();

using Target = const FieldTarget&;
using Value = const JsonValue&;
using Name = std::string_view;

Status read_stop(Name field, Value value, Target target) {
  auto& stops = target.request.stop;
  TRIREME_RETURN_IF_ERROR(read_strings(field, value, target.limits.stop_strings_max, stops));
  for (const std::string& stop : stops) {
    if (stop.empty()) return field_error(field, "a stop string must not be empty");
    if (stop.size() > target.limits.stop_bytes_max) {
      return field_error(
          field, absl::StrFormat("a stop string has %u bytes, at most %u are allowed", stop.size(),
                                 target.limits.stop_bytes_max));
    }
  }
  return {};
}

Status check_vocabulary(Name field, int64_t id, const RequestLimits& limits) {
  if (limits.vocabulary_size == 0 || id < limits.vocabulary_size) return {};
  return field_error(field, absl::StrFormat("token id %d is out of the vocabulary of %u", id,
                                            limits.vocabulary_size));
}

Status read_allowed_tokens(Name field, Value value, Target target) {
  auto& allowed = target.request.sampling.allowed_token_ids;
  TRIREME_RETURN_IF_ERROR(read_token_ids(field, value, target.limits.token_list_max, allowed));
  if (allowed.empty()) return field_error(field, "must not be empty");
  for (const int32_t id : allowed) {
    TRIREME_RETURN_IF_ERROR(check_vocabulary(field, id, target.limits));
  }
  return {};
}

Status read_logit_bias(Name field, Value value, Target target) {
  simdjson::dom::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS) {
    return wrong_type(field, "an object of token id to number", value);
  }
  if (object.size() > target.limits.token_list_max) {
    return field_error(field, absl::StrFormat("at most %u entries, got %u",
                                              target.limits.token_list_max, object.size()));
  }
  for (const auto [key, bias] : object) {
    const std::string text(key);
    char* end = nullptr;
    const long id = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || id < 0 || id > kTokensMax) {
      return field_error(field, absl::StrFormat("\"%s\" is not a token id", text));
    }
    TRIREME_RETURN_IF_ERROR(check_vocabulary(field, id, target.limits));
    wire::LogitBias entry{.token_id = static_cast<int32_t>(id)};
    TRIREME_RETURN_IF_ERROR(read_number(field, bias, -kFloatMax, kFloatMax, entry.bias));
    entry.bias = std::clamp(entry.bias, -100.0F, 100.0F);
    target.request.sampling.logit_bias.push_back(entry);
  }
  return {};
}

Status read_response_format(Name field, Value value, Target) {
  std::string_view type;
  if (value.at_key("type").get_string().get(type) != simdjson::SUCCESS) {
    return field_error(field, "expected an object with a \"type\"");
  }
  if (type == "text") return {};
  return field_error(field, absl::StrFormat("type \"%s\" is not supported, only \"text\"",
                                            std::string(type.substr(0, 40))));
}

Status read_stream_options(Name field, Value value, Target target) {
  simdjson::dom::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS) {
    return wrong_type(field, "an object", value);
  }
  for (const auto [key, option] : object) {
    if (option.is_null()) continue;
    if (key == "include_usage") {
      TRIREME_RETURN_IF_ERROR(
          read_bool("stream_options.include_usage", option, target.request.include_usage));
    } else if (key == "continuous_usage_stats") {
      TRIREME_RETURN_IF_ERROR(read_bool("stream_options.continuous_usage_stats", option,
                                        target.request.continuous_usage));
    }
  }
  return {};
}

Status read_seed(Name field, Value value, Target target) {
  if (uint64_t seed = 0; value.get_uint64().get(seed) == simdjson::SUCCESS) {
    target.request.seed = seed;
    return {};
  }
  int64_t seed = 0;
  TRIREME_RETURN_IF_ERROR(read_integer(field, value, std::numeric_limits<int64_t>::min(),
                                       std::numeric_limits<int64_t>::max(), seed));
  if (seed != -1) target.request.seed = static_cast<uint64_t>(seed);  // -1: vLLM's "none".
  return {};
}

Status read_tokens_max(Name field, Value value, Target target) {
  uint32_t tokens = 0;
  TRIREME_RETURN_IF_ERROR(read_int(field, value, 0, kTokensMax, tokens));
  target.request.output_tokens_max = tokens;
  return {};
}

Status read_top_k(Name field, Value value, Target target) {
  int32_t& top_k = target.request.sampling.top_k;
  TRIREME_RETURN_IF_ERROR(read_int(field, value, -1, kTokensMax, top_k));
  top_k = std::max(top_k, 0);
  return {};
}

Status read_repetition_penalty(Name field, Value value, Target target) {
  float& penalty = target.request.sampling.repetition_penalty;
  TRIREME_RETURN_IF_ERROR(read_number(field, value, 0, kFloatMax, penalty));
  return penalty > 0 ? Status() : field_error(field, "must be greater than 0");
}

Status read_top_p(Name field, Value value, Target target) {
  float& top_p = target.request.sampling.top_p;
  TRIREME_RETURN_IF_ERROR(read_number(field, value, 0, 1, top_p));
  return top_p > 0 ? Status() : field_error(field, "must be in (0, 1], got 0");
}

Status read_prompt_logprobs(Name field, Value value, Target target) {
  int32_t count = 0;
  TRIREME_RETURN_IF_ERROR(read_int(field, value, -1, kTokensMax, count));
  target.request.prompt_logprobs = count;
  return {};
}

Status read_truncation(Name field, Value value, Target target) {
  int32_t tokens = 0;
  TRIREME_RETURN_IF_ERROR(read_int(field, value, -1, kTokensMax, tokens));
  if (tokens == 0) return field_error(field, "must be -1 or at least 1, got 0");
  target.request.truncate_prompt_tokens = tokens;
  return {};
}

// The empty one would be that of all who give none.
Status read_cache_salt(Name field, Value value, Target target) {
  std::string& salt = target.request.cache_salt;
  TRIREME_RETURN_IF_ERROR(read_string(field, value, salt));
  if (salt.empty()) return field_error(field, "must be a non-empty string");
  const std::size_t bytes_max = target.limits.cache_salt_bytes_max;
  if (salt.size() <= bytes_max) return {};
  return field_error(
      field, absl::StrFormat("has %u bytes, at most %u are allowed", salt.size(), bytes_max));
}

Status refuse(Name field, Value, Target) { return field_error(field, "is not supported"); }

Status refuse_true(Name field, Value value, Target) {
  bool wanted = false;
  TRIREME_RETURN_IF_ERROR(read_bool(field, value, wanted));
  return wanted ? field_error(field, "is not supported") : Status();
}

template <float wire::SamplingParams::*member, int low, int high>
Status number(Name field, Value value, Target target) {
  return read_number(field, value, low, high, target.request.sampling.*member);
}
template <bool GenerateRequest::*member>
Status boolean(Name field, Value value, Target target) {
  return read_bool(field, value, target.request.*member);
}
template <std::string GenerateRequest::*member>
Status string(Name field, Value value, Target target) {
  return read_string(field, value, target.request.*member);
}
template <std::vector<int32_t> wire::SamplingParams::*member>
Status token_ids(Name field, Value value, Target target) {
  return read_token_ids(field, value, target.limits.token_list_max,
                        target.request.sampling.*member);
}

using Sampling = wire::SamplingParams;
using Request = GenerateRequest;

constexpr RequestField kSharedFields[] = {
    {"model", string<&Request::model>},
    {"stream", boolean<&Request::stream>},
    {"max_tokens", read_tokens_max},
    {"temperature", number<&Sampling::temperature, 0, 2>},
    {"top_p", read_top_p},
    {"top_k", read_top_k},
    {"min_p", number<&Sampling::min_p, 0, 1>},
    {"n",
     [](Name field, Value value, Target target) {
       return read_int(field, value, 1, target.limits.choices_max, target.request.n);
     }},
    {"best_of",
     [](Name field, Value value, Target target) {
       return read_int(field, value, 1, kTokensMax, target.request.best_of.emplace());
     }},
    {"seed", read_seed},
    {"stop", read_stop},
    {"stream_options", read_stream_options},
    {"stream_interval",
     [](Name field, Value value, Target target) {
       return read_int(field, value, 1, kTokensMax, target.request.stream_interval);
     }},
    {"presence_penalty", number<&Sampling::presence_penalty, -2, 2>},
    {"frequency_penalty", number<&Sampling::frequency_penalty, -2, 2>},
    {"repetition_penalty", read_repetition_penalty},
    {"logit_bias", read_logit_bias},
    {"prompt_logprobs", read_prompt_logprobs},
    {"stop_token_ids", token_ids<&Sampling::stop_token_ids>},
    {"allowed_token_ids", read_allowed_tokens},
    {"bad_words",
     [](Name field, Value value, Target target) {
       return read_strings(field, value, target.limits.token_list_max, target.request.bad_words);
     }},
    {"ignore_eos",
     [](Name field, Value value, Target target) {
       return read_bool(field, value, target.request.sampling.ignore_eos);
     }},
    {"min_tokens",
     [](Name field, Value value, Target target) {
       return read_int(field, value, 0, kTokensMax, target.request.sampling.output_tokens_min);
     }},
    {"include_stop_str_in_output", boolean<&Request::include_stop_in_output>},
    {"skip_special_tokens", boolean<&Request::skip_special_tokens>},
    {"spaces_between_special_tokens", boolean<&Request::spaces_between_special_tokens>},
    {"add_special_tokens", boolean<&Request::add_special_tokens>},
    {"return_token_ids", boolean<&Request::return_token_ids>},
    {"return_tokens_as_token_ids", boolean<&Request::tokens_as_ids>},
    {"truncate_prompt_tokens", read_truncation},
    {"user", string<&Request::user>},
    {"cache_salt", read_cache_salt},
    {"priority",
     [](Name field, Value value, Target target) {
       return read_int(field, value, std::numeric_limits<int32_t>::min(), kTokensMax,
                       target.request.priority);
     }},
    {"response_format", read_response_format},
    {"use_beam_search", refuse_true},
    {"structured_outputs", refuse},
    {"guided_json", refuse},
    {"guided_regex", refuse},
    {"guided_choice", refuse},
    {"guided_grammar", refuse},
    {"prompt_embeds", refuse},
    {"logprob_token_ids", refuse},
};

}  // namespace

std::span<const RequestField> shared_fields() { return kSharedFields; }

namespace {

// -1 is all of the vocabulary, under the same bound.
Status check_logprobs(Name field, const RequestLimits& limits, int32_t& count) {
  const int32_t asked = count;
  if (asked == -1) {
    if (limits.vocabulary_size == 0) {
      return field_error(field, "-1 is not possible, the vocabulary's size is not known");
    }
    count = static_cast<int32_t>(limits.vocabulary_size);
  }
  if (limits.logprobs_max < 0 || count <= limits.logprobs_max) return {};
  return field_error(
      field,
      absl::StrFormat("at most %d (--max-logprobs), got %d%s", limits.logprobs_max, asked,
                      asked == -1 ? absl::StrFormat(", which is all %d", count) : std::string()));
}

Status check_output_tokens(const GenerateRequest& request) {
  if (request.output_tokens_max == 0U && !request.echo) {
    return field_error("max_tokens", "must be at least 1, got 0");
  }
  const uint32_t wanted = request.sampling.output_tokens_min;
  const auto most =
      request.output_tokens_max ? request.output_tokens_max : request.output_tokens_default;
  if (!most || wanted <= *most) return {};
  return field_error("min_tokens",
                     absl::StrFormat("is %u, more than max_tokens = %u%s", wanted, *most,
                                     request.output_tokens_max ? "" : ", the default"));
}

// vLLM's reading of very small temperatures: greedy, or at least not an overflow.
float temperature_of(float asked) {
  if (asked < 1e-5F) return 0;
  return std::max(asked, 0.01F);
}

}  // namespace

Status check_together(GenerateRequest& request, const RequestLimits& limits) {
  auto& sampling = request.sampling;
  if (!request.stream && (request.include_usage || request.continuous_usage)) {
    return field_error("stream_options", "is only allowed with stream = true");
  }
  if (request.stream && request.prompt_logprobs.has_value()) {
    return field_error("prompt_logprobs", "is not available with stream = true");
  }
  TRIREME_RETURN_IF_ERROR(
      check_logprobs(request.is_chat ? "top_logprobs" : "logprobs", limits, request.top_logprobs));
  if (request.prompt_logprobs) {
    TRIREME_RETURN_IF_ERROR(check_logprobs("prompt_logprobs", limits, *request.prompt_logprobs));
    sampling.prompt_logprobs = *request.prompt_logprobs;
  }
  sampling.temperature = temperature_of(sampling.temperature);
  if (sampling.temperature == 0 && request.n > 1) {
    return field_error("n", absl::StrFormat("must be 1 with temperature 0, got %u", request.n));
  }
  if (request.best_of && *request.best_of != 1 && *request.best_of != request.n) {
    return field_error(
        "best_of", absl::StrFormat("must be 1 or n = %u, got %u: choices are not ranked", request.n,
                                   *request.best_of));
  }
  TRIREME_RETURN_IF_ERROR(check_output_tokens(request));
  if (request.wants_logprobs) sampling.logprobs = request.top_logprobs;
  if (request.echo && request.wants_logprobs) {
    sampling.prompt_logprobs = std::max(sampling.prompt_logprobs, request.top_logprobs);
  }
  return {};
}

}  // namespace trireme::api
