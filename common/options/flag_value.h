// Reading one flag's value into its field. A value that does not fit is kInvalidArgument; the
// caller names the flag.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace trireme::flag_value {

[[nodiscard]] inline Status does_not_fit(std::string_view text, std::string_view expected) {
  return error(StatusCode::kInvalidArgument, "'%s' is not %s", text, expected);
}

[[nodiscard]] inline Status read(std::string_view text, bool& field) {
  if (text != "true" && text != "false") return does_not_fit(text, "true or false");
  field = text == "true";
  return absl::OkStatus();
}

[[nodiscard]] inline Status read(std::string_view text, std::string& field) {
  field = text;
  return absl::OkStatus();
}

// A list flag may be repeated; each value is appended.
[[nodiscard]] inline Status read(std::string_view text, std::vector<std::string>& field) {
  field.emplace_back(text);
  return absl::OkStatus();
}

// "1k" is 1000 and "1K" is 1024, likewise m, M, g, G, as in vLLM.
template <std::integral Number>
[[nodiscard]] Status read(std::string_view text, Number& field) {
  int64_t scale = 1;
  std::string_view digits = text;
  if (!text.empty()) {
    constexpr std::string_view kUnits = "kKmMgG";
    constexpr int64_t kScales[] = {1000, 1 << 10, 1000'000, 1 << 20, 1000'000'000, 1 << 30};
    if (const auto unit = kUnits.find(text.back()); unit != kUnits.npos) {
      scale = kScales[unit];
      digits.remove_suffix(1);
    }
  }
  Number value{};
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  Number scaled{};
  if (code != std::errc() || end != digits.data() + digits.size() ||
      __builtin_mul_overflow(value, scale, &scaled)) {
    return does_not_fit(text, "a number in range");
  }
  field = scaled;
  return absl::OkStatus();
}

[[nodiscard]] inline Status read(std::string_view text, double& field) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), field);
  if (code != std::errc() || end != text.data() + text.size()) {
    return does_not_fit(text, "a number");
  }
  return absl::OkStatus();
}

template <typename T>
[[nodiscard]] Status read(std::string_view text, std::optional<T>& field) {
  return read(text, field.emplace());
}

}  // namespace trireme::flag_value
