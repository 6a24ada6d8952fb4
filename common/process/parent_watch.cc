#include "common/process/parent_watch.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

namespace trireme::process {

Status end_with_parent() {
  const pid_t parent = ::getppid();
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, parent, 0));
  if (pidfd < 0 || ::getppid() != parent) {
    return error(StatusCode::kUnavailable, "the parent process %d is gone: %s", parent,
                 std::strerror(errno));
  }
  std::thread([pidfd] {
    ::pthread_setname_np(::pthread_self(), "parent");
    pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
    while (::poll(&entry, 1, -1) < 0 && errno == EINTR) {
    }
    ::kill(::getpid(), SIGKILL);
  }).detach();
  return absl::OkStatus();
}

}  // namespace trireme::process
