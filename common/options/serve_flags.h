// The serve command line: one table row per flag gives parsing, --help, the docs page and the
// notices.
//
// `trireme serve`, api-server, engine-core, coordinator and worker all read the same command line,
// vLLM's:
//   MODEL --flag value --flag=value --switch --no-switch -dp 2      underscores in names read as
//   dashes
//   --list a b --list c            a list: words up to the next flag; may be repeated
//   -O3 --json.key=value -cc.key v  of flags without effect and refused ones
//   --config file.yaml             flat keys; what the command line says is not taken from it
// Every flag of `vllm serve` is known: it works here, or is accepted with a one-line notice that it
// has no effect, or is refused by name with the reason. A name that is not known gets the nearest
// one suggested. Pure but for reading the --config file; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/options/serve_options.h"
#include "common/status.h"

namespace trireme {

enum class FlagEffect : uint8_t { kWorks, kNoEffect, kRefused, kInternal };

struct FlagRow {
  std::string_view name;        // Without the leading dashes.
  std::string_view short_name;  // With its one dash; empty: none.
  std::string_view group;       // Heading in --help.
  std::string_view value;  // What the value is ("N", "FILE"); empty: a switch; "KEY...": a list.
  std::string_view help;   // kNoEffect, kRefused: the reason.
  FlagEffect effect = FlagEffect::kWorks;
  // Takes the value ("true" or "false" for a switch). Null where there is nothing to store.
  Status (*store)(ServeOptions& options, std::string_view value) = nullptr;
  // kRefused: the values, vLLM's default and what means the same, that are taken none the less;
  // with ";" between them.
  std::string_view accepted = {};
};

[[nodiscard]] std::span<const FlagRow> serve_flags();

// `args` without the program's name. `notices` gets a line for each flag that has no effect here.
[[nodiscard]] StatusOr<ServeOptions> parse_serve_flags(std::span<const char* const> args,
                                                       std::vector<std::string>* notices = nullptr);

// The rules that join or bound fields; parse_serve_flags applies them. The first broken one is the
// message.
[[nodiscard]] Status validate(const ServeOptions& options);

// The command line without that flag and its values: what children get of one with a secret.
[[nodiscard]] std::vector<const char*> without_flag(std::span<const char* const> args,
                                                    std::string_view name);

[[nodiscard]] bool wants_help(std::span<const char* const> args);
// What --help or --version prints, after which the program ends; empty: neither is there.
[[nodiscard]] std::string help_or_version(std::string_view program,
                                          std::span<const char* const> args);
// In groups, 100 columns. `program` is shown in the usage line.
[[nodiscard]] std::string serve_help(std::string_view program);
// The page docs/flags.md; a test keeps the file equal to this.
[[nodiscard]] std::string serve_flags_page();

}  // namespace trireme
