// One line of JSON per event on standard error: event name and fields, no printf prose.
//
//   log::info("rank_ready", {{"rank", 2}, {"pid", 4711}});
//   {"t":"2026-01-02T03:04:05.678Z","level":"info","process":"engine-core","rank":2,"event":"rank_ready",...}
//
// Every process of the cluster writes to the stream it inherited; a line is one write(2), so lines
// of several processes never mix. On a terminal the same events come as short readable text.
// Threads: any. TRIREME_LOG_LEVEL: debug, info (default), warning (default on a terminal), error.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

namespace trireme::log {

enum class Level : uint8_t { kDebug, kInfo, kWarning, kError };

class Field {
 public:
  template <std::integral T>
  Field(std::string_view name, T value) : name_(name), value_(static_cast<int64_t>(value)) {}
  Field(std::string_view name, bool value) : name_(name), value_(value) {}
  Field(std::string_view name, double value) : name_(name), value_(value) {}
  Field(std::string_view name, std::string_view value) : name_(name), value_(value) {}
  Field(std::string_view name, const char* value) : Field(name, std::string_view(value)) {}
  Field(std::string_view name, const std::string& value) : Field(name, std::string_view(value)) {}

  [[nodiscard]] std::string_view name() const { return name_; }
  void append_json(std::string& out) const;
  void append_text(std::string& out) const;

 private:
  std::string_view name_;
  std::variant<int64_t, bool, double, std::string_view> value_;
};
using Fields = std::initializer_list<Field>;

// Names the process in every later line: the data-parallel rank it belongs to, and of a worker its
// number in that rank's engine; below 0 they are left out. Call first in main().
void start(std::string_view process, int rank = -1, int worker = -1);
[[nodiscard]] bool enabled(Level level);
void write(Level level, std::string_view event, Fields fields);

inline void debug(std::string_view event, Fields fields = {}) {
  write(Level::kDebug, event, fields);
}
inline void info(std::string_view event, Fields fields = {}) { write(Level::kInfo, event, fields); }
inline void warning(std::string_view event, Fields fields = {}) {
  write(Level::kWarning, event, fields);
}
inline void error(std::string_view event, Fields fields = {}) {
  write(Level::kError, event, fields);
}
// What a person reads while all is well: an info event with that text; on a terminal the text, even
// where events of that level are not shown by default.
void tell(std::string_view event, std::string_view text);
// Why this process ends, for its user: an error event "failed"; on a terminal "process: reason".
void failed(std::string_view reason);

}  // namespace trireme::log
