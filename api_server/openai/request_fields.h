// The tables of fields that the request readers walk. Internal to openai/; .cc files only.
#pragma once

#include <span>

#include "api_server/openai/generate_request.h"
#include "api_server/openai/json_fields.h"

namespace trireme::api {

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

// What only shows when all fields are read.
[[nodiscard]] Status check_together(GenerateRequest& request, const RequestLimits& limits);

}  // namespace trireme::api
