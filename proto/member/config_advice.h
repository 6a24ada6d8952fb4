// What to do about a configuration that differs between members, for the end of a refusal.
#pragma once

#include <string_view>

namespace trireme::member {

[[nodiscard]] constexpr std::string_view config_advice(std::string_view name) {
  if (name != "cpu-kernels") return "start all with the same value";
  return "bits depend on it: start all with one set that every CPU has, as --cpu-kernels avx512";
}

}  // namespace trireme::member
