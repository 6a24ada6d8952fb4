// The flags of one bench command: a row each gives parsing and --help.
//
//   --flag value   --flag=value   --switch   --no-switch   --list a b     (underscores read as
//   dashes)
//
// What is not in the set goes to `rest`, in its order, where the command passes words on to another
// program; where it does not, an unknown name is refused and the nearest one suggested. Pure.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/options/flag_value.h"
#include "common/status.h"

namespace trireme::bench {

struct Flag {
  std::string_view name;   // Without dashes.
  std::string_view value;  // What the value is; empty: a switch; "KEY:MS...": a list.
  std::string_view help;
  std::function<Status(std::string_view)> store;
};

// The flag whose value is read into `field`; bool: a switch.
template <typename T>
[[nodiscard]] Flag flag(std::string_view name, std::string_view value, std::string_view help,
                        T& field) {
  return {name, value, help,
          [&field](std::string_view text) { return flag_value::read(text, field); }};
}

using Words = std::span<const char* const>;

// `rest` null: nothing is passed on. The error names the flag and the value.
[[nodiscard]] Status parse_flags(std::span<const Flag> flags, Words words,
                                 std::vector<const char*>* rest);

// "unknown flag --nmae; did you mean --name?"
[[nodiscard]] Status unknown_flag(std::string_view name, std::span<const std::string_view> known);

// A flag of vLLM's that is refused, or that has no effect; `why` is the help.
[[nodiscard]] Flag refused_flag(std::string_view name, std::string_view value,
                                std::string_view why);
[[nodiscard]] Flag idle_flag(std::string_view name, std::string_view value, std::string_view why);

// One line a flag (more where the help is long), 100 columns.
[[nodiscard]] std::string flags_help(std::span<const Flag> flags);

}  // namespace trireme::bench
