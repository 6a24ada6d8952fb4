// --help and docs/flags.md from the table.
#include <algorithm>
#include <vector>

#include "common/options/serve_flags.h"
#include "common/version.h"

namespace trireme {
namespace {

std::string spelling(const FlagRow& row) {
  std::string text = "--" + std::string(row.name);
  if (!row.short_name.empty()) text += ", " + std::string(row.short_name);
  if (!row.value.empty()) text += " " + std::string(row.value);
  return text;
}

std::vector<std::string_view> groups() {
  std::vector<std::string_view> names;
  for (const FlagRow& row : serve_flags()) {
    if (row.effect != FlagEffect::kWorks) continue;
    if (names.empty() || names.back() != row.group) names.push_back(row.group);
  }
  return names;
}

void append_effect_rows(std::string& page, FlagEffect effect) {
  page += "| flag | why |\n| --- | --- |\n";
  for (const FlagRow& row : serve_flags()) {
    if (row.effect != effect) continue;
    page += "| `--" + std::string(row.name) + "` | " + std::string(row.help);
    if (!row.accepted.empty()) {
      std::string values(row.accepted);
      for (auto at = values.find(';'); at != values.npos; at = values.find(';', at + 4)) {
        values.replace(at, 1, "`, `");
      }
      page += "; accepted: `" + values + "`";
    }
    page += " |\n";
  }
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string help_or_version(std::string_view program, std::span<const char* const> args) {
  if (wants_help(args)) return serve_help(program);
  const auto is_version = [](std::string_view arg) { return arg == "--version"; };
  if (std::none_of(args.begin(), args.end(), is_version)) return "";
  return std::string(program) + " " + kVersion + "\n";
}

std::string serve_help(std::string_view program) {
  constexpr std::size_t kIndent = 40;
  std::string text = "usage: " + std::string(program) + " MODEL [flags]\n\n";
  text +=
      "MODEL is a Hugging Face directory or a hub id. Switches also take --no-NAME. --config "
      "FILE.yaml\n"
      "holds any of these flags as keys; the command line wins.\n";
  for (const std::string_view group : groups()) {
    text += "\n" + std::string(group) + ":\n";
    for (const FlagRow& row : serve_flags()) {
      if (row.group != group || row.effect != FlagEffect::kWorks) continue;
      std::string line = "  " + spelling(row);
      line.resize(std::max(kIndent, line.size() + 2), ' ');
      text += line + std::string(row.help) + "\n";
    }
  }
  text +=
      "\nOther flags of vllm serve are accepted with a notice or refused with the reason: "
      "docs/flags.md\n";
  return text;
}

std::string serve_flags_page() {
  std::string page =
      "# Flags\n\n"
      "The command line of `trireme serve`, `api-server` and `engine-core`: vLLM's names. This "
      "page is made\n"
      "from the table in `common/options/flag_rows.cc`; a test keeps the two equal.\n";
  for (const std::string_view group : groups()) {
    page += "\n## " + std::string(group) + "\n\n| flag | meaning |\n| --- | --- |\n";
    for (const FlagRow& row : serve_flags()) {
      if (row.group != group || row.effect != FlagEffect::kWorks) continue;
      page += "| `" + escaped(spelling(row)) + "` | " + escaped(row.help) + " |\n";
    }
  }
  page += "\n## Accepted, without effect here\n\nEach prints one line at start that says so.\n\n";
  append_effect_rows(page, FlagEffect::kNoEffect);
  page += "\n## Refused\n\nEach ends the start with this reason.\n\n";
  append_effect_rows(page, FlagEffect::kRefused);
  return page;
}

}  // namespace trireme
