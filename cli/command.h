// The subcommands of `trireme`: one row each; help and dispatch come from the table in main.cc.
#pragma once

#include <span>

namespace trireme::cli {

using Arguments = std::span<char* const>;  // After the subcommand's name; null-terminated behind.

// Each returns the process' exit code.
int run_serve(Arguments arguments);
int run_pull(Arguments arguments);
int run_key(Arguments arguments);
int run_layout(Arguments arguments);
int run_version(Arguments arguments);

}  // namespace trireme::cli
