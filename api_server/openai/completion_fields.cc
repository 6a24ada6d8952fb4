#include "api_server/openai/request_fields.h"

namespace trireme::api {
namespace {

using Target = const FieldTarget&;
using Value = const JsonValue&;
using Name = std::string_view;

Status read_token_prompt(Name field, Value value, Target target) {
  Prompt prompt{.is_tokens = true};
  TRIREME_RETURN_IF_ERROR(
      read_token_ids(field, value, target.limits.prompt_tokens_max, prompt.token_ids));
  if (prompt.token_ids.empty()) return field_error(field, "must not be empty");
  target.request.prompts.push_back(std::move(prompt));
  return {};
}

Status read_suffix(Name field, Value value, Target) {
  std::string suffix;
  TRIREME_RETURN_IF_ERROR(read_string(field, value, suffix));
  return suffix.empty() ? Status() : field_error(field, "is not supported");
}

constexpr RequestField kCompletionFields[] = {
    {"prompt", read_prompts},
    {"echo", [](Name field, Value value,
                Target target) { return read_bool(field, value, target.request.echo); }},
    {"logprobs",
     [](Name field, Value value, Target target) {
       target.request.wants_logprobs = true;
       return read_int(field, value, -1, std::numeric_limits<int32_t>::max(),
                       target.request.top_logprobs);
     }},
    {"suffix", read_suffix},
};

}  // namespace

Status read_prompts(std::string_view field, const JsonValue& value, const FieldTarget& target) {
  auto& prompts = target.request.prompts;
  prompts.clear();
  if (value.is_string()) return read_string(field, value, prompts.emplace_back().text);
  simdjson::dom::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) {
    return wrong_type(field, "a string or an array", value);
  }
  if (array.size() == 0) return field_error(field, "must not be empty");
  const JsonValue first = *array.begin();
  if (first.is_number()) return read_token_prompt(field, value, target);
  if (array.size() > target.limits.prompts_max) {
    return field_error(field, absl::StrFormat("at most %u prompts, got %u",
                                              target.limits.prompts_max, array.size()));
  }
  for (const JsonValue item : array) {
    if (first.is_array()) {
      TRIREME_RETURN_IF_ERROR(read_token_prompt(field, item, target));
    } else {
      TRIREME_RETURN_IF_ERROR(read_string(field, item, prompts.emplace_back().text));
    }
  }
  return {};
}

std::span<const RequestField> completion_fields() { return kCompletionFields; }

}  // namespace trireme::api
