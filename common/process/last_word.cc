#include "common/process/last_word.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "common/log.h"

namespace trireme::process {
namespace {

constexpr std::size_t kMessageBytesMax = 3072;  // The line is one write of at most PIPE_BUF.
constexpr std::string_view kMark =
    "\x1e"
    "failed ";  // ASCII record separator: no log line has it.

}  // namespace

int end_with(const Status& status) {
  if (status.ok()) return EXIT_SUCCESS;
  if (std::getenv(kSupervisedVariable) == nullptr) {
    log::failed(std::string(status.message()));
    return EXIT_FAILURE;
  }
  const std::string line = marked_line(status) + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  return EXIT_FAILURE;
}

std::string marked_line(const Status& status) {
  std::string line = absl::StrFormat("%s%d %s", kMark, static_cast<int>(status.code()),
                                     std::string(status.message().substr(0, kMessageBytesMax)));
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

std::optional<Status> read_marked_line(std::string_view line) {
  if (!line.starts_with(kMark)) return std::nullopt;
  line.remove_prefix(kMark.size());
  int code = 0;
  const auto [end, failure] = std::from_chars(line.data(), line.data() + line.size(), code);
  if (failure != std::errc() || code <= 0 || code > 16) return std::nullopt;
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  if (line.starts_with(' ')) line.remove_prefix(1);
  return Status(static_cast<StatusCode>(code), std::string(line));
}

Status join_last_words(const Status& earlier, const Status& later) {
  if (earlier.ok() || later.message().find(earlier.message()) != absl::string_view::npos) {
    return later;
  }
  return error(later.code(), "%s (before: %s)", std::string(later.message()),
               std::string(earlier.message()));
}

bool is_for_a_person(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kPermissionDenied:
    case StatusCode::kResourceExhausted:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kUnimplemented:
    case StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace trireme::process
