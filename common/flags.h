// FlagTable: one row per option gives parsing, --help, the docs page and the /config dump.
#pragma once

#include <charconv>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/status.h"

namespace trireme {

template <typename Options>
struct Flag {
  std::string_view name;  // Without the leading dashes.
  std::variant<bool Options::*, uint16_t Options::*, uint32_t Options::*, double Options::*,
               std::string Options::*>
      member;
  std::string_view help;
};

namespace internal {
inline bool parse(std::string_view text, bool& value) {
  value = text == "true" || text == "1";
  return value || text == "false" || text == "0";
}
inline bool parse(std::string_view text, std::string& value) {
  value = text;
  return true;
}
template <typename Number>
bool parse(std::string_view text, Number& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}
}  // namespace internal

// Reads `--name value`, `--name=value` and, for a bool, plain `--name`.
template <typename Options>
[[nodiscard]] StatusOr<Options> parse_flags(std::span<const char* const> args,
                                            std::span<const Flag<Options>> table) {
  constexpr auto kBad = StatusCode::kInvalidArgument;
  Options options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    std::string_view name(args[i]);
    if (!name.starts_with("--")) return error(kBad, "unexpected '%s'", name);
    name.remove_prefix(2);
    std::string_view text;
    bool has_text = false;
    if (const auto equals = name.find('='); equals != name.npos) {
      text = name.substr(equals + 1), name = name.substr(0, equals), has_text = true;
    }
    const Flag<Options>* flag = nullptr;
    for (const Flag<Options>& row : table) {
      if (row.name == name) flag = &row;
    }
    if (flag == nullptr) return error(kBad, "unknown flag --%s", name);
    if (!has_text && std::holds_alternative<bool Options::*>(flag->member)) {
      text = "true";
    } else if (!has_text) {
      if (i + 1 == args.size()) return error(kBad, "--%s needs a value", name);
      text = args[++i];
    }
    const auto parse_into = [&](auto member) { return internal::parse(text, options.*member); };
    if (!std::visit(parse_into, flag->member)) {
      return error(kBad, "--%s: '%s' does not fit", name, text);
    }
  }
  TRIREME_RETURN_IF_ERROR(options.validate());
  return options;
}

}  // namespace trireme
