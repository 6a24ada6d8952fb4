#include "api_server/openai/generate_request.h"

#include "api_server/openai/embedding_request.h"
#include "api_server/openai/request_fields.h"

namespace trireme::api {
namespace {

// A parser keeps the memory of its largest document; above this it is given back.
constexpr std::size_t kKeptBytesMax = 1 << 20;
constexpr uint32_t kCompletionTokensDefault = 16;

const RequestField* find(std::span<const RequestField> fields, std::string_view name) {
  for (const RequestField& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

}  // namespace

struct RequestReader::Json {
  simdjson::dom::parser parser;

  StatusOr<simdjson::dom::object> parse(const std::string& body, const RequestLimits& limits) {
    // Capacity first: the depth is only taken over together with an allocation.
    if (parser.capacity() < body.size() || parser.max_depth() != limits.json_depth_max) {
      if (parser.allocate(std::max<std::size_t>(body.size(), 4096), limits.json_depth_max) !=
          simdjson::SUCCESS) {
        return error(StatusCode::kResourceExhausted, "out of memory for a body of %u bytes",
                     body.size());
      }
    }
    JsonValue root;
    simdjson::error_code code = parser.parse(body).get(root);
    if (code == simdjson::NUMBER_ERROR) {
      code = parser.parse(with_long_integers_as_reals(body)).get(root);
    }
    if (code == simdjson::UTF8_ERROR) {
      return error(StatusCode::kInvalidArgument, "the body is not valid UTF-8");
    }
    if (code == simdjson::DEPTH_ERROR) {
      return error(StatusCode::kInvalidArgument, "the body is nested deeper than %u",
                   limits.json_depth_max);
    }
    if (code != simdjson::SUCCESS) {
      return error(StatusCode::kInvalidArgument, "the body is not valid JSON: %s",
                   simdjson::error_message(code));
    }
    simdjson::dom::object object;
    if (root.get_object().get(object) != simdjson::SUCCESS) {
      return error(StatusCode::kInvalidArgument, "the body must be a JSON object, got %s",
                   type_name(root));
    }
    return object;
  }
  void trim() {
    if (parser.capacity() > kKeptBytesMax) parser = simdjson::dom::parser();
  }
};

RequestReader::RequestReader(RequestLimits limits, SamplingDefaults defaults)
    : limits_(limits), defaults_(std::move(defaults)), json_(std::make_unique<Json>()) {}
RequestReader::~RequestReader() = default;

namespace {

Status read_fields(simdjson::dom::object object, std::span<const RequestField> own,
                   const FieldTarget& target) {
  for (const auto [key, value] : object) {
    if (value.is_null()) continue;
    const RequestField* field = find(own, key);
    if (field == nullptr) field = find(shared_fields(), key);
    if (field == nullptr) continue;
    TRIREME_RETURN_IF_ERROR(field->read(field->name, value, target));
  }
  return {};
}

// As vLLM without a tool parser: tools may be shown to the model, their calls are not read.
Status check_tools(const GenerateRequest& request) {
  const bool has_tools = !request.tools_json.empty();
  if (!request.wants_tool_calls.value_or(has_tools)) return {};
  if (!has_tools) return field_error("tool_choice", "\"auto\" needs tools");
  return field_error(
      "tool_choice",
      "\"auto\", the default with tools, needs a tool parser, which this server does "
      "not have: \"none\" shows the tools to the model and gives its answer as text");
}

Status read_chat_object(simdjson::dom::object object, const RequestLimits& limits,
                        GenerateRequest& request) {
  request.is_chat = true;
  request.add_special_tokens = false;  // The template writes them.
  TRIREME_RETURN_IF_ERROR(
      read_fields(object, chat_fields(), {.request = request, .limits = limits}));
  if (request.messages_json.empty()) return field_error("messages", "is required");
  if (request.completion_tokens_max) request.output_tokens_max = request.completion_tokens_max;
  if (request.top_logprobs != 0 && !request.wants_logprobs) {
    return field_error("top_logprobs", "needs logprobs = true");
  }
  if (request.continue_final_message && request.add_generation_prompt) {
    return field_error("continue_final_message",
                       "cannot be true together with add_generation_prompt");
  }
  return check_together(request, limits);
}

}  // namespace

StatusOr<GenerateRequest> RequestReader::read_completion(const std::string& body) {
  TRIREME_ASSIGN_OR_RETURN(const auto object, json_->parse(body, limits_));
  GenerateRequest request;
  request.sampling = defaults_.sampling;
  TRIREME_RETURN_IF_ERROR(
      read_fields(object, completion_fields(), {.request = request, .limits = limits_}));
  if (request.prompts.empty()) return field_error("prompt", "is required");
  request.output_tokens_default = defaults_.output_tokens_max.value_or(kCompletionTokensDefault);
  TRIREME_RETURN_IF_ERROR(check_together(request, limits_));
  json_->trim();
  return request;
}

StatusOr<GenerateRequest> RequestReader::read_chat(const std::string& body) {
  TRIREME_ASSIGN_OR_RETURN(const auto object, json_->parse(body, limits_));
  GenerateRequest request;
  request.sampling = defaults_.sampling;
  request.output_tokens_default = defaults_.output_tokens_max;
  TRIREME_RETURN_IF_ERROR(read_chat_object(object, limits_, request));
  TRIREME_RETURN_IF_ERROR(check_tools(request));
  json_->trim();
  return request;
}

StatusOr<EmbeddingRequest> RequestReader::read_embedding(const std::string& body) {
  TRIREME_ASSIGN_OR_RETURN(const auto object, json_->parse(body, limits_));
  EmbeddingRequest request;
  TRIREME_RETURN_IF_ERROR(read_embedding_fields(object, limits_, request));
  json_->trim();
  return request;
}

StatusOr<TokenizeRequest> RequestReader::read_tokenize(const std::string& body) {
  TRIREME_ASSIGN_OR_RETURN(const auto object, json_->parse(body, limits_));
  TokenizeRequest request;
  JsonValue prompt;
  if (object.at_key("messages").error() == simdjson::SUCCESS) {
    GenerateRequest chat;
    TRIREME_RETURN_IF_ERROR(read_chat_object(object, limits_, chat));
    request.model = chat.model;
    request.chat = std::move(chat);
  } else if (object.at_key("prompt").get(prompt) == simdjson::SUCCESS) {
    TRIREME_RETURN_IF_ERROR(read_string("prompt", prompt, request.prompt));
  } else {
    return field_error("prompt", "is required (or messages)");
  }
  for (const auto [key, value] : object) {
    if (value.is_null()) continue;
    Status status;
    if (key == "model") status = read_string("model", value, request.model);
    if (key == "add_special_tokens") {
      status = read_bool("add_special_tokens", value, request.add_special_tokens);
    }
    if (key == "return_token_strs") {
      status = read_bool("return_token_strs", value, request.return_token_strings);
    }
    TRIREME_RETURN_IF_ERROR(status);
  }
  json_->trim();
  return request;
}

StatusOr<DetokenizeRequest> RequestReader::read_detokenize(const std::string& body) {
  TRIREME_ASSIGN_OR_RETURN(const auto object, json_->parse(body, limits_));
  DetokenizeRequest request;
  JsonValue tokens;
  if (object.at_key("tokens").get(tokens) != simdjson::SUCCESS) {
    return field_error("tokens", "is required");
  }
  TRIREME_RETURN_IF_ERROR(
      read_token_ids("tokens", tokens, limits_.prompt_tokens_max, request.tokens));
  JsonValue model;
  if (object.at_key("model").get(model) == simdjson::SUCCESS && !model.is_null()) {
    TRIREME_RETURN_IF_ERROR(read_string("model", model, request.model));
  }
  json_->trim();
  return request;
}

}  // namespace trireme::api
