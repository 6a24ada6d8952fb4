// query_value(): a parameter after a path's question mark, by name; query_values(), where it may
// come several times. Pure.
//
// Of a name that comes several times the last value counts. Escapes (%41, +) are undone; one that
// is broken stays as it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::api {

// All of them, in order.
[[nodiscard]] std::vector<std::string> query_values(std::string_view query, std::string_view name);
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace trireme::api
