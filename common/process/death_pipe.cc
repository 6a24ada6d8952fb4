#include "common/process/death_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace trireme::process {
namespace {

// snprintf is not async-signal-safe.
void write_proc_path(int fd, char* out) {
  constexpr std::string_view kPrefix = "/proc/self/fd/";
  std::memcpy(out, kPrefix.data(), kPrefix.size());
  const auto [end, code] = std::to_chars(out + kPrefix.size(), out + kPrefix.size() + 11, fd);
  *end = '\0';
}

bool has_hung_up(int fd) {
  pollfd entry{.fd = fd, .events = 0, .revents = 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

StatusOr<DeathPipe> make_death_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return error(StatusCode::kResourceExhausted, "pipe2: %s", std::strerror(errno));
  }
  return DeathPipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

bool arm_death_pipe(int read_end) {
  // Owner and signal belong to the open file, which relatives share: each process opens its own.
  char path[32];
  write_proc_path(read_end, path);
  const int own = ::open(path, O_RDONLY | O_NONBLOCK);
  if (own < 0) return false;
  if (::fcntl(own, F_SETOWN, ::getpid()) != 0 || ::fcntl(own, F_SETSIG, SIGKILL) != 0 ||
      ::fcntl(own, F_SETFL, O_NONBLOCK | O_ASYNC) != 0) {
    return false;
  }
  if (has_hung_up(own)) ::kill(::getpid(), SIGKILL);
  return true;  // `own` stays open, over exec too: it is what carries the order to kill.
}

Status arm_inherited_death_pipe() {
  const char* const text = std::getenv(kDeathPipeVariable);
  if (text == nullptr) return absl::OkStatus();
  const std::string_view value(text);
  int fd = -1;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), fd);
  struct stat what {};
  if (code != std::errc() || end != value.data() + value.size() || ::fstat(fd, &what) != 0 ||
      !S_ISFIFO(what.st_mode)) {
    return error(StatusCode::kInvalidArgument,
                 "%s=%s is not an inherited pipe; start the program with the launcher that set it, "
                 "or unset it",
                 kDeathPipeVariable, value);
  }
  if (!arm_death_pipe(fd)) {
    return error(StatusCode::kInternal, "arm the death pipe %d: %s", fd, std::strerror(errno));
  }
  return absl::OkStatus();
}

}  // namespace trireme::process
