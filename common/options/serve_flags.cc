#include "common/options/serve_flags.h"

#include <algorithm>
#include <numeric>

#include "common/options/config_file.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr std::string_view kConfigFlag = "config";

const FlagRow* find_flag(std::string_view name) {
  for (const FlagRow& row : serve_flags()) {
    if (row.name == name || (!row.short_name.empty() && row.short_name.substr(1) == name)) {
      return &row;
    }
  }
  return nullptr;
}

// Levenshtein distance, to suggest the flag that was meant.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string_view nearest_flag(std::string_view name) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(3, name.size() / 3);
  for (const FlagRow& row : serve_flags()) {
    if (row.effect == FlagEffect::kInternal) continue;
    // A flag that was cut short ("--tensor-paralel") is near its own beginning.
    const std::size_t distance = std::min(edit_distance(name, row.name),
                                          edit_distance(name, row.name.substr(0, name.size())) + 1);
    if (distance < best_distance) best = row.name, best_distance = distance;
  }
  return best;
}

Status unknown_flag(std::string_view name) {
  const std::string_view nearest = nearest_flag(name);
  if (nearest.empty()) return error(kBad, "unknown flag --%s; see --help", name);
  return error(kBad, "unknown flag --%s; did you mean --%s?", name, nearest);
}

// One argument cut into its parts: "--a_b=c" is a-b, "c".
struct Argument {
  std::string name;
  std::optional<std::string_view> value;
  bool negated = false;
};

Argument cut(std::string_view text) {
  text.remove_prefix(text.starts_with("--") ? 2 : 1);
  Argument argument;
  if (const auto equals = text.find('='); equals != text.npos) {
    argument.value = text.substr(equals + 1);
    text = text.substr(0, equals);
  }
  argument.name = text;
  std::replace(argument.name.begin(), argument.name.end(), '_', '-');
  if (find_flag(argument.name) == nullptr && argument.name.starts_with("no-")) {
    argument.name.erase(0, 3);
    argument.negated = true;
  }
  return argument;
}

class Parser {
 public:
  Parser(ServeOptions& options, std::vector<std::string>* notices)
      : options_(options), notices_(notices) {}

  Status parse(std::span<const char* const> args) {
    for (std::size_t i = 0; i < args.size(); ++i) {
      const std::string_view text(args[i]);
      if (!text.starts_with('-') || text == "-") {
        TRIREME_RETURN_IF_ERROR(take_positional(text));
        continue;
      }
      const std::string_view next = i + 1 < args.size() ? std::string_view(args[i + 1]) : "";
      bool used_next = false;
      TRIREME_RETURN_IF_ERROR(take_flag(cut(text), i + 1 < args.size(), next, used_next));
      if (used_next) ++i;
    }
    return absl::OkStatus();
  }

 private:
  Status take_positional(std::string_view text) {
    if (has_positional_) return error(kBad, "unexpected '%s': the model is given already", text);
    has_positional_ = true;
    options_.model.model = text;
    return absl::OkStatus();
  }

  Status take_flag(const Argument& argument, bool has_next, std::string_view next,
                   bool& used_next) {
    const FlagRow* row = find_flag(argument.name);
    const bool is_config = argument.name == kConfigFlag;
    if (row == nullptr && !is_config) return unknown_flag(argument.name);
    if (row != nullptr && row->value.empty()) return store_switch(*row, argument);
    if (argument.negated) return error(kBad, "--no-%s: not a switch", argument.name);
    std::string_view value;
    if (argument.value.has_value()) {
      value = *argument.value;
    } else if (has_next && (!next.starts_with("--") || next.size() < 3)) {
      value = next;
      used_next = true;
    } else {
      return error(kBad, "--%s needs a value", argument.name);
    }
    return is_config ? absl::OkStatus() : store(*row, value);
  }

  Status store_switch(const FlagRow& row, const Argument& argument) {
    const std::string_view given = argument.value.value_or("true");
    if (given != "true" && given != "false") {
      return error(kBad, "--%s: '%s' is not true or false", row.name, given);
    }
    return store(row, (given == "true") != argument.negated ? "true" : "false");
  }

  Status store(const FlagRow& row, std::string_view value) {
    if (row.effect == FlagEffect::kRefused) {
      if (row.value.empty() && value == "false") return absl::OkStatus();
      return error(kBad, "--%s is not supported: %s", row.name, row.help);
    }
    if (row.effect == FlagEffect::kNoEffect) {
      if (notices_ != nullptr) {
        notices_->push_back(absl::StrFormat("--%s has no effect: %s", row.name, row.help));
      }
      return absl::OkStatus();
    }
    return annotate(row.store(options_, value), absl::StrFormat("--%s", row.name));
  }

  ServeOptions& options_;
  std::vector<std::string>* notices_;
  bool has_positional_ = false;
};

// The value of --config, wherever it stands; its content goes first so that the command line wins.
std::string config_path(std::span<const char* const> args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string_view text(args[i]);
    if (text == "--config" && i + 1 < args.size()) return args[i + 1];
    if (text.starts_with("--config=")) return std::string(text.substr(9));
  }
  return "";
}

}  // namespace

StatusOr<ServeOptions> parse_serve_flags(std::span<const char* const> args,
                                         std::vector<std::string>* notices) {
  ServeOptions options;
  if (const std::string path = config_path(args); !path.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<std::string> lines, read_config_file(path));
    std::vector<const char*> pointers;
    for (const std::string& line : lines) pointers.push_back(line.c_str());
    TRIREME_RETURN_IF_ERROR(annotate(Parser(options, notices).parse(pointers), path));
  }
  TRIREME_RETURN_IF_ERROR(Parser(options, notices).parse(args));
  TRIREME_RETURN_IF_ERROR(validate(options));
  return options;
}

bool wants_help(std::span<const char* const> args) {
  return std::any_of(args.begin(), args.end(), [](const char* arg) {
    return std::string_view(arg) == "--help" || std::string_view(arg) == "-h";
  });
}

}  // namespace trireme
