#include "common/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "common/clock.h"
#include "common/json_text.h"

namespace trireme::log {
namespace {

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warning", "error"};

// A parent that passes our lines on to a terminal says so in TRIREME_LOG_FORMAT.
bool wants_text() {
  const char* const format = std::getenv("TRIREME_LOG_FORMAT");
  if (format != nullptr) return std::string_view(format) == "text";
  return isatty(STDERR_FILENO) == 1;
}

bool is_terminal() {
  static const bool value = wants_text();
  return value;
}

// People at a terminal read the launcher's own lines: of events they get what needs them.
Level level_from_environment() {
  const char* text = std::getenv("TRIREME_LOG_LEVEL");
  for (std::size_t i = 0; text != nullptr && i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == text) return static_cast<Level>(i);
  }
  return is_terminal() ? Level::kWarning : Level::kInfo;
}

struct Identity {
  std::array<char, 32> process{};
  int rank = -1;
  int worker = -1;
};

// Written once by start(), before other threads exist.
Identity& identity() {
  static Identity value;
  return value;
}

Level threshold() {
  static const Level level = level_from_environment();
  return level;
}

void append_number(std::string& out, auto number) {
  std::array<char, 32> digits;
  const auto [end, code] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  out.append(digits.data(), end);
}

std::string utc_time() {
  const int64_t milliseconds = unix_milliseconds();
  const std::time_t seconds = milliseconds / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 40> text;
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string out(text.data(), length);
  const auto fraction = static_cast<int>(milliseconds % 1000);
  out += '.';
  out += static_cast<char>('0' + fraction / 100);
  out += static_cast<char>('0' + fraction / 10 % 10);
  out += static_cast<char>('0' + fraction % 10);
  out += 'Z';
  return out;
}

std::string json_line(Level level, std::string_view event, Fields fields) {
  std::string line = "{\"t\":\"" + utc_time() + "\",\"level\":\"";
  line += kLevelNames[static_cast<std::size_t>(level)];
  line += "\",\"process\":\"";
  line += identity().process.data();
  line += "\",\"pid\":";
  append_number(line, getpid());
  if (identity().rank >= 0) {
    line += ",\"rank\":";
    append_number(line, identity().rank);
  }
  if (identity().worker >= 0) {
    line += ",\"worker\":";
    append_number(line, identity().worker);
  }
  line += ",\"event\":";
  append_json_string(line, event);
  for (const Field& field : fields) {
    line += ',';
    append_json_string(line, field.name());
    line += ':';
    field.append_json(line);
  }
  line += "}\n";
  return line;
}

// "12:34:56.789 ! worker/0.1"
std::string text_head(Level level) {
  std::string line = utc_time().substr(11, 12);
  line += level >= Level::kWarning ? " ! " : "   ";
  line += identity().process.data();
  if (identity().rank >= 0) {
    line += '/';
    append_number(line, identity().rank);
  }
  if (identity().worker >= 0) {
    line += '.';
    append_number(line, identity().worker);
  }
  return line;
}

std::string text_line(Level level, std::string_view event, Fields fields) {
  std::string line = text_head(level);
  line += "  ";
  line += event;
  for (const Field& field : fields) {
    line += "  ";
    line += field.name();
    line += '=';
    field.append_text(line);
  }
  line += '\n';
  return line;
}

}  // namespace

void Field::append_json(std::string& out) const {
  if (const auto* text = std::get_if<std::string_view>(&value_)) {
    append_json_string(out, *text);
  } else {
    append_text(out);
  }
}

void Field::append_text(std::string& out) const {
  if (const auto* text = std::get_if<std::string_view>(&value_)) {
    out += *text;
  } else if (const auto* flag = std::get_if<bool>(&value_)) {
    out += *flag ? "true" : "false";
  } else if (const auto* integer = std::get_if<int64_t>(&value_)) {
    append_number(out, *integer);
  } else {
    append_number(out, std::get<double>(value_));
  }
}

void start(std::string_view process, int rank, int worker) {
  Identity& self = identity();
  self.process.fill('\0');
  process.copy(self.process.data(), self.process.size() - 1);
  self.rank = rank;
  self.worker = worker;
  // A log file that is as large as `ulimit -f` lets it be must not end who writes to it.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool enabled(Level level) { return level >= threshold(); }

void write(Level level, std::string_view event, Fields fields) {
  if (!enabled(level)) return;
  const std::string line =
      is_terminal() ? text_line(level, event, fields) : json_line(level, event, fields);
  // A full disk or a closed terminal must not stop serving: a lost line is only a lost line.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void tell(std::string_view event, std::string_view text) {
  if (!is_terminal()) return info(event, {{"text", text}});
  const bool is_silenced =
      threshold() > Level::kInfo && std::getenv("TRIREME_LOG_LEVEL") != nullptr;
  if (is_silenced) return;
  const std::string line = text_head(Level::kInfo) + "  " + std::string(text) + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void failed(std::string_view reason) {
  if (!is_terminal()) return error("failed", {{"reason", reason}});
  const std::string line =
      std::string(identity().process.data()) + ": " + std::string(reason) + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace trireme::log
