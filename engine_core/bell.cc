#include "engine_core/bell.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "common/check.h"

namespace trireme::engine {

StatusOr<UniqueFd> Bell::open_eventfd() {
  UniqueFd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd.is_open()) return error(StatusCode::kInternal, "eventfd: %s", std::strerror(errno));
  return fd;
}

void Bell::ring() noexcept {
  if (!is_waiting_.exchange(false, std::memory_order_seq_cst)) return;
  const uint64_t one = 1;
  (void)!::write(fd_.get(), &one, sizeof(one));
}

void Bell::woke_up() noexcept {
  // Still true: nobody rang, so nothing was written.
  if (is_waiting_.exchange(false, std::memory_order_seq_cst)) return;
  uint64_t count = 0;
  (void)!::read(fd_.get(), &count, sizeof(count));
}

void Bell::sleep(Deadline deadline, std::span<const int> others) const {
  TRIREME_CHECK(others.size() <= kOthersMax, "few descriptors are watched");
  std::array<pollfd, kOthersMax + 1> fds{};
  fds[0] = {fd_.get(), POLLIN, 0};
  for (std::size_t i = 0; i < others.size(); ++i) fds[i + 1] = {others[i], POLLIN, 0};
  const auto count = static_cast<nfds_t>(others.size() + 1);
  if (deadline.is_never()) {
    (void)::ppoll(fds.data(), count, nullptr, nullptr);
    return;
  }
  const int64_t left = deadline.remaining().count();
  const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
  (void)::ppoll(fds.data(), count, &timeout, nullptr);
}

}  // namespace trireme::engine
