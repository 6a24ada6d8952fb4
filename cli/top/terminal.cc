#include "cli/top/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace trireme::top {
namespace {

constexpr std::string_view kEnter = "\033[?1049h\033[?25l";  // Alternate screen, no cursor.
constexpr std::string_view kLeave = "\033[?25h\033[?1049l";
constexpr std::string_view kHome = "\033[H";
constexpr std::string_view kClearLine = "\033[K";
constexpr std::string_view kClearBelow = "\033[J";
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

// The handler was taken away by SA_RESETHAND, so the signal that is raised here ends the process.
void leave_and_end(int signal) {
  const ssize_t ignored = ::write(STDOUT_FILENO, kLeave.data(), kLeave.size());
  (void)ignored;
  (void)::raise(signal);
}

void handle_signals(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESETHAND;
  for (const int signal : kSignals) (void)::sigaction(signal, &action, nullptr);
}

void write_out(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool Terminal::is_there() { return ::isatty(STDOUT_FILENO) == 1; }

PageSize Terminal::size() {
  winsize window{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return {};
  return {.columns = window.ws_col, .rows = window.ws_row};
}

Terminal::Terminal() {
  handle_signals(&leave_and_end);
  write_out(kEnter);
}

Terminal::~Terminal() {
  write_out(kLeave);
  handle_signals(SIG_DFL);
}

void Terminal::draw(std::string_view page) {
  std::string text(kHome);
  for (const char c : page) {
    if (c == '\n') text += kClearLine;
    text += c;
  }
  // A last line that is full must not scroll the first one away.
  if (text.ends_with('\n')) text.pop_back();
  text += kClearBelow;
  write_out(text);
}

}  // namespace trireme::top
