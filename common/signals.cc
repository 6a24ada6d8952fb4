#include "common/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace trireme {

StatusOr<StopSignal> StopSignal::install() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (const int code = pthread_sigmask(SIG_BLOCK, &set, nullptr); code != 0) {
    return error(StatusCode::kInternal, "block SIGTERM: %s", std::strerror(code));
  }
  std::signal(SIGPIPE, SIG_IGN);  // A closed peer is an error code where it happens.
  const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) return error(StatusCode::kInternal, "signalfd: %s", std::strerror(errno));
  return StopSignal(fd);
}

StopSignal::StopSignal(StopSignal&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), level_(other.level_.load()) {}

StopSignal::~StopSignal() {
  if (fd_ >= 0) close(fd_);
}

StopSignal::Level StopSignal::update() {
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof(info)) == sizeof(info)) raise();
  return level();
}

void StopSignal::raise() {
  const Level before = level();
  level_.store(before == Level::kRun ? Level::kDrain : Level::kForce, std::memory_order_release);
}

}  // namespace trireme
