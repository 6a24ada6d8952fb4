// Typed reads of a JSON value, each with an error that names the field, what was expected and what
// came. Internal to openai/; include from .cc files only (simdjson is heavy).
#pragma once

#include <simdjson.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "api_server/field_error.h"
#include "common/status.h"

namespace trireme::api {

using JsonValue = simdjson::dom::element;

[[nodiscard]] std::string_view type_name(const JsonValue& value);
[[nodiscard]] Status wrong_type(std::string_view field, std::string_view expected,
                                const JsonValue& value);

// In [low, high]; infinities do not exist in JSON.
[[nodiscard]] Status read_number(std::string_view field, const JsonValue& value, double low,
                                 double high, float& out);
// Whole numbers, also written as 16.0.
[[nodiscard]] Status read_integer(std::string_view field, const JsonValue& value, int64_t low,
                                  int64_t high, int64_t& out);
template <typename Integer>
[[nodiscard]] Status read_int(std::string_view field, const JsonValue& value, int64_t low,
                              int64_t high, Integer& out) {
  int64_t number = 0;
  TRIREME_RETURN_IF_ERROR(read_integer(field, value, low, high, number));
  out = static_cast<Integer>(number);
  return {};
}
[[nodiscard]] Status read_bool(std::string_view field, const JsonValue& value, bool& out);
[[nodiscard]] Status read_string(std::string_view field, const JsonValue& value, std::string& out);
[[nodiscard]] Status read_token_ids(std::string_view field, const JsonValue& value,
                                    std::size_t count_max, std::vector<int32_t>& out);
// One string or an array of them.
[[nodiscard]] Status read_strings(std::string_view field, const JsonValue& value,
                                  std::size_t count_max, std::vector<std::string>& out);
[[nodiscard]] std::string json_text(const JsonValue& value);
// A whole file, which lives as long as the parser's next one; errors name it.
[[nodiscard]] StatusOr<JsonValue> read_json_file(simdjson::dom::parser& parser,
                                                 const std::string& path);
// JSON with every integer beyond 64 bits written as a real, 18446744073709551616.0, which the
// parser takes.
[[nodiscard]] std::string with_long_integers_as_reals(std::string_view json);

}  // namespace trireme::api
