// ApiKeys: who may use the server. Pure.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::api {

class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  // `authorization`: the header's value, "Bearer KEY", where the case of "Bearer" is of no account
  // (RFC 9110, 11.1). Without keys everybody may. The time it
  // takes depends on the lengths alone, not on where a guess goes wrong.
  [[nodiscard]] bool allows(std::string_view authorization) const {
    if (keys_.empty()) return true;
    constexpr std::string_view kScheme = "bearer ";
    const bool has_scheme =
        authorization.size() >= kScheme.size() &&
        std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                   [](char ours, char given) { return ours == to_lower(given); });
    const std::string_view given = has_scheme ? authorization.substr(kScheme.size()) : "";
    bool is_allowed = false;
    for (const std::string& key : keys_) is_allowed |= is_equal(key, given);
    return is_allowed && has_scheme;
  }

 private:
  static char to_lower(char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }

  [[nodiscard]] static bool is_equal(std::string_view key, std::string_view given) {
    volatile unsigned char difference = key.size() == given.size() ? 0 : 1;
    for (std::size_t i = 0; i < key.size(); ++i) {
      const char other = given.empty() ? '\0' : given[i % given.size()];
      difference = static_cast<unsigned char>(difference | (key[i] ^ other));
    }
    return difference == 0;
  }

  std::vector<std::string> keys_;
};

}  // namespace trireme::api
