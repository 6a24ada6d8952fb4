// Where the other programs of the same installation or build tree lie.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::process {

// The executable `name` beside this program, or in ../bin; NotFound names both places.
[[nodiscard]] StatusOr<std::string> find_sibling_binary(std::string_view name);

// This process becomes that program, with these arguments (without the program's name). Returns
// only what went wrong.
[[nodiscard]] Status become_sibling_binary(std::string_view name,
                                           std::span<const char* const> arguments);

}  // namespace trireme::process
