#include "cli/bench/progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_format.h"

namespace trireme::bench {
namespace {

constexpr Duration kLineInterval = std::chrono::seconds(10);

}  // namespace

Progress::Progress(std::string what, uint64_t total, bool is_enabled)
    : what_(std::move(what)),
      total_(total),
      is_enabled_(is_enabled),
      is_terminal_(isatty(STDERR_FILENO) == 1),
      begin_(now()),
      next_(begin_ + kQuiet) {}

Progress::~Progress() { clear(); }

void Progress::update(uint64_t done, std::string_view note, Instant now) {
  if (!is_enabled_ || now < next_) return;
  next_ = now + (is_terminal_ ? kTick : kLineInterval);
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  std::string line = total_ > 0 ? absl::StrFormat("%s: %d of %d", what_, done, total_)
                                : absl::StrFormat("%s", what_);
  absl::StrAppendFormat(&line, ", %.0f s", seconds);
  if (!note.empty()) absl::StrAppendFormat(&line, ", %s", note);
  std::fprintf(stderr, is_terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
  has_line_ = is_terminal_;
}

void Progress::clear() {
  if (!has_line_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  has_line_ = false;
}

}  // namespace trireme::bench
