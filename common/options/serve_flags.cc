#include "common/options/serve_flags.h"

#include <algorithm>
#include <set>

#include "common/options/config_file.h"
#include "common/options/flag_value.h"
#include "common/options/nearest_name.h"

namespace trireme {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;
constexpr std::string_view kConfigFlag = "config";
constexpr uint32_t kDemoEngines = 2;

const FlagRow* find_flag(std::string_view name) {
  for (const FlagRow& row : serve_flags()) {
    if (row.name == name || (!row.short_name.empty() && row.short_name.substr(1) == name)) {
      return &row;
    }
  }
  return nullptr;
}

std::string_view nearest_flag(std::string_view name) {
  std::vector<std::string_view> known = {"help", "version", kConfigFlag};
  for (const FlagRow& row : serve_flags()) {
    if (row.effect != FlagEffect::kInternal) known.push_back(row.name);
  }
  return nearest_name(name, known);
}

// One argument cut into its parts: "--a_b.x=c" is a-b, x, "c".
struct Argument {
  std::string_view dashes;
  std::string name;
  std::string key;  // Of a JSON value given by its parts.
  std::optional<std::string_view> value;
  bool negated = false;
};

Status unknown_flag(const Argument& argument) {
  const std::string name = absl::StrFormat("%s%s%s%s", argument.dashes, argument.name,
                                           argument.key.empty() ? "" : ".", argument.key);
  const std::string_view nearest = nearest_flag(argument.name);
  if (nearest.empty()) return error(kBad, "unknown flag %s; see --help", name);
  return error(kBad, "unknown flag %s; did you mean --%s?", name, nearest);
}

Argument cut(std::string_view text) {
  const std::size_t dash_count = text.starts_with("--") ? 2 : 1;
  Argument argument{.dashes = text.substr(0, dash_count)};
  text.remove_prefix(dash_count);
  if (dash_count == 1 && text.size() > 1 && text[0] == 'O' && text[1] >= '0' && text[1] <= '9') {
    argument.value = text.substr(1);  // -O3
    text = text.substr(0, 1);
  } else if (const auto equals = text.find('='); equals != text.npos) {
    argument.value = text.substr(equals + 1);
    text = text.substr(0, equals);
  }
  if (const auto dot = text.find('.'); dot != text.npos) {
    argument.key = text.substr(dot + 1);
    text = text.substr(0, dot);
  }
  argument.name = text;
  std::replace(argument.name.begin(), argument.name.end(), '_', '-');
  if (find_flag(argument.name) == nullptr && argument.name.starts_with("no-")) {
    argument.name.erase(0, 3);
    argument.negated = true;
  }
  return argument;
}

bool is_list(const FlagRow& row) { return row.value.ends_with("..."); }

// A flag where it is used, with its values.
struct FlagUse {
  const FlagRow* row = nullptr;  // Null: --config.
  std::vector<std::string_view> values;
  std::size_t words = 1;  // The flag's own and those of its values that stand apart.
};

StatusOr<FlagUse> read_switch(const FlagRow& row, const Argument& argument) {
  if (argument.negated && argument.value) {
    return error(kBad, "--no-%s takes no value ('%s')", row.name, *argument.value);
  }
  const std::string_view given = argument.value.value_or("true");
  if (given != "true" && given != "false") {
    return error(kBad, "--%s: '%s' is not true or false", row.name, given);
  }
  return FlagUse{.row = &row, .values = {argument.negated ? "false" : given}};
}

// The flag at args[at], which begins with a dash.
StatusOr<FlagUse> read_use(std::span<const char* const> args, std::size_t at) {
  const Argument argument = cut(args[at]);
  const FlagRow* const row = find_flag(argument.name);
  if (row == nullptr && argument.name != kConfigFlag) return unknown_flag(argument);
  if (!argument.key.empty()) {
    if (row == nullptr || row->value != "JSON") return unknown_flag(argument);
    if (row->effect == FlagEffect::kWorks) {
      return error(kBad, "--%s.%s: give --%s its whole JSON at once", row->name, argument.key,
                   row->name);
    }
  }
  if (row != nullptr && row->value.empty()) return read_switch(*row, argument);
  if (argument.negated) return error(kBad, "--no-%s: not a switch", argument.name);
  FlagUse use{.row = row};
  if (argument.value) {
    use.values.push_back(*argument.value);
    return use;
  }
  const auto word = [&] {
    return at + use.words < args.size() ? std::string_view(args[at + use.words]) : "--none";
  };
  // A value may begin with one dash (-1); those after it in a list may not.
  if (word().starts_with("--") && word().size() > 2) {
    return error(kBad, "--%s needs a value", argument.name);
  }
  do {
    use.values.push_back(word());
    ++use.words;
  } while (row != nullptr && is_list(*row) && !word().starts_with('-'));
  return use;
}

bool is_accepted(const FlagRow& row, std::string_view value) {
  if (row.value.empty()) return value == "false";
  std::string_view rest = row.accepted;
  while (!rest.empty()) {
    const auto end = std::min(rest.find(';'), rest.size());
    if (rest.substr(0, end) == value) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

class Parser {
 public:
  Parser(ServeOptions& options, std::vector<std::string>* notices)
      : options_(options), notices_(notices) {}

  // Flags that an earlier call met are passed over. Of a flag that is met twice the last value
  // holds on a command line; in a file, where the order says nothing, it is refused.
  Status parse(std::span<const char* const> args, bool is_file = false) {
    std::set<const FlagRow*> met;
    for (std::size_t i = 0; i < args.size();) {
      const std::string_view text(args[i]);
      FlagUse use;
      if (!text.starts_with('-') || text == "-") {
        TRIREME_ASSIGN_OR_RETURN(use, read_positional(text));
      } else {
        TRIREME_ASSIGN_OR_RETURN(use, read_use(args, i));
      }
      i += use.words;
      if (use.row == nullptr || met_before_.contains(use.row)) continue;
      const bool is_new = met.insert(use.row).second;
      if (is_file && !is_new && use.row->effect == FlagEffect::kWorks && !is_list(*use.row)) {
        return error(kBad, "%s has several values, but takes one", use.row->name);
      }
      for (const std::string_view value : use.values) {
        TRIREME_RETURN_IF_ERROR(store(*use.row, value));
      }
      if (use.values.size() > 1) long_list_ = use;
    }
    met_before_.merge(met);
    return absl::OkStatus();
  }

  // A list before the model takes the model too.
  [[nodiscard]] Status check_model() const {
    if (!options_.model.model.empty() || long_list_.row == nullptr) return absl::OkStatus();
    return error(kBad,
                 "no model is given: --%s takes every word up to the next flag, '%s' too; put the "
                 "model first",
                 long_list_.row->name, long_list_.values.back());
  }

  // What the source tree's front door serves where neither the command line nor --config names a
  // model: under its own name, by two engines unless something is said of their number.
  void apply_demo_model() {
    const std::string& demo = options_.internal.demo_model;
    if (demo.empty() || was_given("model")) return;
    options_.model.model = demo;
    std::vector<std::string>& names = options_.model.served_model_names;
    if (names.empty()) names.push_back(demo.substr(demo.rfind('/') + 1));
    for (const char* const flag : {"data-parallel-size", "data-parallel-size-local",
                                   "data-parallel-start-rank", "data-parallel-rank"}) {
      if (was_given(flag)) return;
    }
    options_.parallel.data_parallel_size = kDemoEngines;
  }

  // Those inside of values; flags get theirs where they are stored.
  void tell_fields_without_effect() {
    if (!options_.parallel.expert_balancing.has_fields_without_effect) return;
    notice(
        "--eplb-config: use_async, communicator and log_balancedness_interval have no effect: "
        "experts move without their weights, and with a line for each time");
  }

 private:
  [[nodiscard]] bool was_given(std::string_view flag) const {
    return met_before_.contains(find_flag(flag));
  }

  StatusOr<FlagUse> read_positional(std::string_view text) {
    if (has_positional_) return error(kBad, "unexpected '%s': the model is given already", text);
    has_positional_ = true;
    return FlagUse{.row = find_flag("model"), .values = {text}};
  }

  Status store(const FlagRow& row, std::string_view value) {
    if (row.effect == FlagEffect::kRefused) {
      if (is_accepted(row, value)) return {};
      return error(kBad, "--%s is not supported: %s", row.name, row.help);
    }
    if (row.effect == FlagEffect::kNoEffect) {
      notice(absl::StrFormat("--%s has no effect: %s", row.name, row.help));
      uint64_t ignored = 0;
      const Status status = row.value == "N" ? flag_value::read(value, ignored) : absl::OkStatus();
      return annotate(status, absl::StrFormat("--%s", row.name));
    }
    return annotate(row.store(options_, value), absl::StrFormat("--%s", row.name));
  }

  // Once, however many values and keys the flag has.
  void notice(std::string line) {
    if (notices_ == nullptr || std::ranges::find(*notices_, line) != notices_->end()) return;
    notices_->push_back(std::move(line));
  }

  ServeOptions& options_;
  std::vector<std::string>* notices_;
  std::set<const FlagRow*> met_before_;
  FlagUse long_list_;
  bool has_positional_ = false;
};

// The value of --config, wherever it stands.
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
  Parser parser(options, notices);
  TRIREME_RETURN_IF_ERROR(parser.parse(args));
  // After the command line, so that this wins, lists included.
  if (const std::string path = config_path(args); !path.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<std::string> lines, read_config_file(path));
    std::vector<const char*> pointers;
    for (const std::string& line : lines) pointers.push_back(line.c_str());
    TRIREME_RETURN_IF_ERROR(annotate(parser.parse(pointers, true), "--config " + path));
  }
  TRIREME_RETURN_IF_ERROR(parser.check_model());
  parser.apply_demo_model();
  parser.tell_fields_without_effect();
  TRIREME_RETURN_IF_ERROR(validate(options));
  return options;
}

std::vector<const char*> without_flag(std::span<const char* const> args, std::string_view name) {
  std::vector<const char*> rest;
  for (std::size_t i = 0; i < args.size();) {
    const std::string_view text(args[i]);
    const bool is_flag = text.starts_with('-') && text != "-";
    const StatusOr<FlagUse> use = is_flag ? read_use(args, i) : FlagUse{};
    const std::size_t words = use.ok() ? use->words : 1;
    const bool is_it = use.ok() && use->row != nullptr && use->row->name == name;
    if (!is_it) rest.insert(rest.end(), &args[i], &args[i] + words);
    i += words;
  }
  return rest;
}

bool wants_help(std::span<const char* const> args) {
  return std::any_of(args.begin(), args.end(), [](const char* arg) {
    const std::string_view text(arg);
    // vLLM's --help=GROUP too: there is one page.
    return text == "--help" || text == "-h" || text.starts_with("--help=");
  });
}

}  // namespace trireme
