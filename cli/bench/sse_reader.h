// SseReader: server-sent events out of the pieces in which a stream arrives. Takes "data" lines
// (several of one event are joined by a newline) that end in LF or CRLF; other fields and comments
// are passed over. Pure; one owner.
//   bound: an event of more than event_bytes_max is refused.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::bench {

class SseReader {
 public:
  static constexpr std::size_t kEventBytesMax = 8u << 20;
  // Gets the data of one event; valid during the call.
  using Handler = std::function<Status(std::string_view data)>;

  // Ends at the first error of `handler`.
  [[nodiscard]] Status feed(std::string_view piece, const Handler& handler);

 private:
  Status take_line(std::string_view line, const Handler& handler);

  std::string line_;  // The begun one.
  std::string data_;  // Of the begun event.
  bool has_data_ = false;
};

}  // namespace trireme::bench
