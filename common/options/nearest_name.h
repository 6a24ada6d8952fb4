// nearest_name: which known name a mistyped one was meant to be. Pure.
#pragma once

#include <span>
#include <string_view>

namespace trireme {

// Empty when none is near. A name that was cut short is near the one it begins.
[[nodiscard]] std::string_view nearest_name(std::string_view name,
                                            std::span<const std::string_view> known);

}  // namespace trireme
