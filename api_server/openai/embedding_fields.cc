// The fields of /v1/embeddings: OpenAI's, and those of vLLM's beside them.
#include "api_server/openai/embedding_request.h"
#include "api_server/openai/request_fields.h"

namespace trireme::api {
namespace {

using Value = const JsonValue&;
using Name = std::string_view;

// What the other endpoints have too, read as there.
constexpr std::string_view kShared[] = {"model", "user", "truncate_prompt_tokens", "priority",
                                        "add_special_tokens"};

Status read_one_of(Name field, Value value, std::initializer_list<std::string_view> choices,
                   std::string& out) {
  TRIREME_RETURN_IF_ERROR(read_string(field, value, out));
  std::string names;
  for (const std::string_view choice : choices) {
    if (out == choice) return {};
    names += names.empty() ? "" : ", ";
    names += choice;
  }
  return field_error(field, absl::StrFormat("must be one of %s, got \"%s\"", names, out));
}

Status read_own(Name field, Value value, EmbeddingRequest& request) {
  std::string word;
  if (field == "encoding_format") {
    TRIREME_RETURN_IF_ERROR(read_one_of(field, value, {"float", "base64"}, word));
    request.as_base64 = word == "base64";
  } else if (field == "dimensions") {
    return read_int(field, value, 1, std::numeric_limits<int32_t>::max(),
                    request.dimensions.emplace());
  } else if (field == "normalize" || field == "use_activation") {
    return read_bool(field, value, request.normalize.emplace());
  } else if (field == "embed_dtype") {
    return read_one_of(field, value, {"float32"}, word);
  } else if (field == "endianness") {
    return read_one_of(field, value, {"native", "little"}, word);
  } else if (field == "messages") {
    return field_error(field, "is not supported; give the text as input");
  }
  return {};
}

}  // namespace

Status read_embedding_fields(simdjson::dom::object object, const RequestLimits& limits,
                             EmbeddingRequest& request) {
  RequestLimits own = limits;
  own.prompts_max = EmbeddingRequest::kInputsMax;
  GenerateRequest shared;
  const FieldTarget target{.request = shared, .limits = own};
  for (const auto [key, value] : object) {
    if (value.is_null()) continue;
    if (key == "input") TRIREME_RETURN_IF_ERROR(read_prompts("input", value, target));
    TRIREME_RETURN_IF_ERROR(read_own(key, value, request));
    if (std::find(std::begin(kShared), std::end(kShared), key) == std::end(kShared)) continue;
    for (const RequestField& field : shared_fields()) {
      if (field.name == key) TRIREME_RETURN_IF_ERROR(field.read(field.name, value, target));
    }
  }
  if (shared.prompts.empty()) return field_error("input", "is required");
  request.model = std::move(shared.model);
  request.inputs = std::move(shared.prompts);
  request.truncate_prompt_tokens = shared.truncate_prompt_tokens;
  request.add_special_tokens = shared.add_special_tokens;
  request.user = std::move(shared.user);
  request.priority = shared.priority;
  return {};
}

}  // namespace trireme::api
