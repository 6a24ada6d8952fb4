#include "cli/bench/sse_reader.h"

namespace trireme::bench {

Status SseReader::feed(std::string_view piece, const Handler& handler) {
  while (true) {
    const std::size_t end = piece.find('\n');
    if (end == piece.npos) {
      line_ += piece;
      if (line_.size() + data_.size() <= kEventBytesMax) return absl::OkStatus();
      return error(StatusCode::kResourceExhausted, "an event of more than %d bytes",
                   kEventBytesMax);
    }
    // A line that came whole is not copied.
    if (line_.empty()) {
      TRIREME_RETURN_IF_ERROR(take_line(piece.substr(0, end), handler));
    } else {
      line_ += piece.substr(0, end);
      const Status status = take_line(line_, handler);
      line_.clear();
      TRIREME_RETURN_IF_ERROR(status);
    }
    piece.remove_prefix(end + 1);
  }
}

Status SseReader::take_line(std::string_view line, const Handler& handler) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) {
    if (!has_data_) return absl::OkStatus();
    has_data_ = false;
    const Status status = handler(data_);
    data_.clear();
    return status;
  }
  if (!line.starts_with("data:")) return absl::OkStatus();
  line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
  return absl::OkStatus();
}

}  // namespace trireme::bench
