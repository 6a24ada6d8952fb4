#include "cli/bench/flag_set.h"

#include <algorithm>
#include <optional>

#include "common/options/nearest_name.h"

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr std::size_t kHelpColumn = 34;
constexpr std::size_t kColumns = 100;

const Flag* find(std::span<const Flag> flags, std::string_view name) {
  const auto found = std::find_if(flags.begin(), flags.end(),
                                  [name](const Flag& flag) { return flag.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

struct Word {
  std::string name;
  std::optional<std::string_view> value;
};

Word cut(std::string_view text) {
  text.remove_prefix(2);
  Word word;
  if (const auto equals = text.find('='); equals != text.npos) {
    word.value = text.substr(equals + 1);
    text = text.substr(0, equals);
  }
  word.name = text;
  std::replace(word.name.begin(), word.name.end(), '_', '-');
  return word;
}

Status store(const Flag& flag, std::string_view value) {
  return annotate(flag.store(value), absl::StrFormat("--%s", flag.name));
}

std::vector<std::string_view> names_of(std::span<const Flag> flags) {
  std::vector<std::string_view> names = {"help"};
  for (const Flag& flag : flags) names.push_back(flag.name);
  return names;
}

// The flag at words[at] and its values; gives how many words that were.
StatusOr<std::size_t> take(const Flag& flag, const Word& word, Words words, std::size_t at) {
  if (flag.value.empty()) {
    TRIREME_RETURN_IF_ERROR(store(flag, word.value.value_or("true")));
    return 1;
  }
  if (word.value) {
    TRIREME_RETURN_IF_ERROR(store(flag, *word.value));
    return 1;
  }
  const auto is_value = [&](std::size_t index) {
    return index < words.size() && !std::string_view(words[index]).starts_with("--");
  };
  if (!is_value(at + 1)) return error(kBad, "--%s needs a value (%s)", flag.name, flag.value);
  std::size_t end = at + 1;
  do {
    TRIREME_RETURN_IF_ERROR(store(flag, words[end]));
    ++end;
  } while (flag.value.ends_with("...") && is_value(end));
  return end - at;
}

// `text` in lines that fit behind the names.
void append_wrapped(std::string& out, std::string_view text) {
  const std::size_t width = kColumns - kHelpColumn;
  while (text.size() > width) {
    const std::size_t space = text.rfind(' ', width);
    const std::size_t end = space == text.npos ? width : space;
    out += text.substr(0, end);
    out += "\n" + std::string(kHelpColumn, ' ');
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  out += text;
  out += '\n';
}

}  // namespace

Status parse_flags(std::span<const Flag> flags, Words words, std::vector<const char*>* rest) {
  for (std::size_t at = 0; at < words.size();) {
    const std::string_view text(words[at]);
    if (!text.starts_with("--")) {
      if (rest == nullptr) return error(kBad, "unexpected '%s': only flags are taken here", text);
      rest->push_back(words[at++]);
      continue;
    }
    Word word = cut(text);
    const Flag* found = find(flags, word.name);
    if (found == nullptr && word.name.starts_with("no-") && !word.value) {
      found = find(flags, word.name.substr(3));
      if (found != nullptr && !found->value.empty()) found = nullptr;
      if (found != nullptr) word.value = "false";
    }
    if (found == nullptr) {
      if (rest == nullptr) return unknown_flag(word.name, names_of(flags));
      rest->push_back(words[at++]);
      continue;
    }
    TRIREME_ASSIGN_OR_RETURN(const std::size_t taken, take(*found, word, words, at));
    at += taken;
  }
  return absl::OkStatus();
}

Status unknown_flag(std::string_view name, std::span<const std::string_view> known) {
  const std::string_view nearest = nearest_name(name, known);
  if (nearest.empty()) return error(kBad, "unknown flag --%s; see --help", name);
  return error(kBad, "unknown flag --%s; did you mean --%s?", name, nearest);
}

Flag refused_flag(std::string_view name, std::string_view value, std::string_view why) {
  return {name, value, why,
          [why](std::string_view) { return error(kBad, "not supported: %s", why); }};
}

Flag idle_flag(std::string_view name, std::string_view value, std::string_view why) {
  return {name, value, why, [](std::string_view) { return absl::OkStatus(); }};
}

std::string flags_help(std::span<const Flag> flags) {
  std::string out;
  for (const Flag& flag : flags) {
    std::string line = absl::StrFormat("  --%s %s", flag.name, flag.value);
    if (line.size() + 1 > kHelpColumn) line += "\n" + std::string(kHelpColumn, ' ');
    line.resize(std::max(line.size(), kHelpColumn), ' ');
    out += line;
    append_wrapped(out, flag.help);
  }
  return out;
}

}  // namespace trireme::bench
