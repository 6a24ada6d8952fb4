// query_value(): a parameter after a path's question mark, by name. Pure.
//
// Of a name that comes several times the last value counts. Escapes (%41, +) are undone; one that
// is broken stays as it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme::api {

[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace trireme::api
