#include "api_server/openai/json_fields.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace trireme::api {

using simdjson::dom::element_type;

std::string_view type_name(const JsonValue& value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::INT64:
    case element_type::UINT64:
      return "an integer";
    case element_type::DOUBLE:
      return "a number";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "a boolean";
    case element_type::NULL_VALUE:
      return "null";
  }
  return "something else";
}

Status wrong_type(std::string_view field, std::string_view expected, const JsonValue& value) {
  return field_error(field, absl::StrFormat("expected %s, got %s", expected, type_name(value)));
}

Status read_number(std::string_view field, const JsonValue& value, double low, double high,
                   float& out) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) {
    return wrong_type(field, "a number", value);
  }
  if (!(number >= low && number <= high)) {
    return field_error(field, absl::StrFormat("must be in [%g, %g], got %g", low, high, number));
  }
  out = static_cast<float>(number);
  return {};
}

Status read_integer(std::string_view field, const JsonValue& value, int64_t low, int64_t high,
                    int64_t& out) {
  int64_t number = 0;
  if (value.get_int64().get(number) != simdjson::SUCCESS) {
    double real = 0;
    if (value.is_bool() || value.get_double().get(real) != simdjson::SUCCESS ||
        real != std::floor(real)) {
      return wrong_type(field, "an integer", value);
    }
    if (!(std::abs(real) < 9e18)) {
      return field_error(field, absl::StrFormat("must be in [%d, %d], got %g", low, high, real));
    }
    number = static_cast<int64_t>(real);
  }
  if (number < low || number > high) {
    return field_error(field, absl::StrFormat("must be in [%d, %d], got %d", low, high, number));
  }
  out = number;
  return {};
}

Status read_bool(std::string_view field, const JsonValue& value, bool& out) {
  if (value.get_bool().get(out) != simdjson::SUCCESS) return wrong_type(field, "a boolean", value);
  return {};
}

Status read_string(std::string_view field, const JsonValue& value, std::string& out) {
  std::string_view text;
  if (value.get_string().get(text) != simdjson::SUCCESS) {
    return wrong_type(field, "a string", value);
  }
  out.assign(text);
  return {};
}

Status read_token_ids(std::string_view field, const JsonValue& value, std::size_t count_max,
                      std::vector<int32_t>& out) {
  simdjson::dom::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) {
    return wrong_type(field, "an array of integers", value);
  }
  if (array.size() > count_max) {
    return field_error(field,
                       absl::StrFormat("at most %u entries, got %u", count_max, array.size()));
  }
  out.clear();
  out.reserve(array.size());
  for (const JsonValue item : array) {
    int32_t id = 0;
    TRIREME_RETURN_IF_ERROR(read_int(field, item, 0, std::numeric_limits<int32_t>::max(), id));
    out.push_back(id);
  }
  return {};
}

Status read_strings(std::string_view field, const JsonValue& value, std::size_t count_max,
                    std::vector<std::string>& out) {
  out.clear();
  if (value.is_string()) return read_string(field, value, out.emplace_back());
  simdjson::dom::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) {
    return wrong_type(field, "a string or an array of strings", value);
  }
  if (array.size() > count_max) {
    return field_error(field,
                       absl::StrFormat("at most %u strings, got %u", count_max, array.size()));
  }
  for (const JsonValue item : array) {
    TRIREME_RETURN_IF_ERROR(read_string(field, item, out.emplace_back()));
  }
  return {};
}

std::string json_text(const JsonValue& value) { return simdjson::minify(value); }

namespace {

bool is_beyond_64_bits(std::string_view number) {
  if (number.find_first_of(".eE") != std::string_view::npos) return false;
  const bool is_negative = number.front() == '-';
  const std::string_view last = is_negative ? "9223372036854775808" : "18446744073709551615";
  if (is_negative) number.remove_prefix(1);
  return number.size() != last.size() ? number.size() > last.size() : number > last;
}

}  // namespace

std::string with_long_integers_as_reals(std::string_view json) {
  constexpr std::string_view kNumber = "0123456789+-.eE";
  std::string out;
  out.reserve(json.size() + 64);
  bool is_text = false;
  for (std::size_t i = 0; i < json.size();) {
    const char c = json[i];
    if (is_text || !((c >= '0' && c <= '9') || c == '-')) {
      if (c == '"') is_text = !is_text;
      const std::size_t length = is_text && c == '\\' ? 2 : 1;
      out += json.substr(i, length);
      i += length;
      continue;
    }
    const std::string_view number = json.substr(i, json.find_first_not_of(kNumber, i) - i);
    out += number;
    if (is_beyond_64_bits(number)) out += ".0";
    i += number.size();
  }
  return out;
}

StatusOr<JsonValue> read_json_file(simdjson::dom::parser& parser, const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    return error(StatusCode::kInvalidArgument, "%s: is not a regular file", path);
  }
  JsonValue root;
  const simdjson::error_code code = parser.load(path).get(root);
  if (code == simdjson::IO_ERROR) {
    return error(StatusCode::kNotFound, "%s: cannot be read: %s", path, std::strerror(errno));
  }
  if (code != simdjson::SUCCESS) {
    return error(StatusCode::kDataLoss, "%s: not JSON (%s)", path, simdjson::error_message(code));
  }
  return root;
}

}  // namespace trireme::api
