// The tables of fields that the request readers walk. Internal to openai/; .cc files only.
#pragma once

#include <span>

#include "api_server/openai/generate_request.h"
#include "api_server/openai/json_fields.h"

namespace trireme::api {

struct EmbeddingRequest;

// What a field is read into.
struct FieldTarget {
  GenerateRequest& request;
  const RequestLimits& limits;
};

struct RequestField {
  std::string_view name;
  Status (*read)(std::string_view field, const JsonValue& value, const FieldTarget& target);
};

// Sampling, limits and output options, which completions and chat share.
[[nodiscard]] std::span<const RequestField> shared_fields();
[[nodiscard]] std::span<const RequestField> completion_fields();
[[nodiscard]] std::span<const RequestField> chat_fields();
[[nodiscard]] Status read_embedding_fields(simdjson::dom::object object,
                                           const RequestLimits& limits, EmbeddingRequest& request);

// A string, a list of strings, a list of token ids, or a list of such lists, into the prompts.
[[nodiscard]] Status read_prompts(std::string_view field, const JsonValue& value,
                                  const FieldTarget& target);

// What only shows when all fields are read.
[[nodiscard]] Status check_together(GenerateRequest& request, const RequestLimits& limits);

}  // namespace trireme::api
