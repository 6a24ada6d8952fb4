#include "common/zmq/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/zmq/wakeup.h"

namespace trireme::zmq {
namespace {

constexpr int kEventsMax = 64;  // What is left over is reported by the next wait.

timespec to_timespec(Duration duration) {
  constexpr Duration kSleepMax = std::chrono::hours(1);
  duration = std::min(duration, kSleepMax);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
}

int wait_for_events(int epoll, std::span<epoll_event> events, Duration duration) {
  const timespec time = to_timespec(duration);
  const auto events_max = static_cast<int>(events.size());
  const int count = ::epoll_pwait2(epoll, events.data(), events_max, &time, nullptr);
  if (count >= 0 || errno == EINTR) return count;
  // Older than Linux 5.11, or a sandbox that does not know the call: milliseconds, rounded up.
  const int milliseconds =
      static_cast<int>(time.tv_sec * 1000 + (time.tv_nsec + 999'999) / 1'000'000);
  return ::epoll_wait(epoll, events.data(), events_max, milliseconds);
}

}  // namespace

StatusOr<Wakeup> Wakeup::create() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return error(StatusCode::kResourceExhausted, "eventfd: %s", std::strerror(errno));
  return Wakeup(UniqueFd(fd));
}

void Wakeup::notify() const noexcept {
  // It cannot fail but by a full counter, and then it is readable as well.
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof(one));
}

void Wakeup::drain() const noexcept {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(fd_.get(), &count, sizeof(count));
}

StatusOr<Poller> Poller::create() {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return error(StatusCode::kResourceExhausted, "epoll: %s", std::strerror(errno));
  return Poller(UniqueFd(fd));
}

Status Poller::add(Socket& socket, uint64_t token) {
  return add_entry({.token = token, .socket = &socket, .fd = socket.fd(), .wants_writable = false});
}

Status Poller::add_fd(int fd, uint64_t token) {
  return add_entry({.token = token, .socket = nullptr, .fd = fd, .wants_writable = false});
}

Status Poller::add_entry(Entry entry) {
  if (find(entry.token) != nullptr) {
    return error(StatusCode::kInvalidArgument, "poller token %d is in use", entry.token);
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = entry.token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, entry.fd, &event) != 0) {
    return error(StatusCode::kInvalidArgument, "poll descriptor %d: %s", entry.fd,
                 std::strerror(errno));
  }
  entries_.push_back(entry);
  return absl::OkStatus();
}

void Poller::remove(uint64_t token) {
  Entry* const entry = find(token);
  if (entry == nullptr) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->fd, nullptr);
  entries_.erase(entries_.begin() + (entry - entries_.data()));
}

void Poller::want_writable(uint64_t token, bool wanted) {
  Entry* const entry = find(token);
  if (entry == nullptr) return;
  entry->wants_writable = wanted;
  if (entry->socket != nullptr) return;
  epoll_event event{};
  event.events = EPOLLIN | (wanted ? EPOLLOUT : 0U);
  event.data.u64 = token;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, entry->fd, &event);
}

Poller::Entry* Poller::find(uint64_t token) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.token == token; });
  return found == entries_.end() ? nullptr : &*found;
}

void Poller::collect(Entry& entry, bool was_announced) {
  if (!was_announced && !entry.socket->must_ask() && !entry.wants_writable) return;
  const auto [readable, writable] = entry.socket->ask_readiness();
  const bool reports_writable = writable && entry.wants_writable;
  if (readable || reports_writable) ready_.push_back({entry.token, readable, reports_writable});
}

std::span<const Ready> Poller::wait(Deadline deadline) {
  std::array<epoll_event, kEventsMax> events;
  do {
    ready_.clear();
    for (Entry& entry : entries_) {
      if (entry.socket != nullptr) collect(entry, false);
    }
    const std::size_t already_ready = ready_.size();
    const int count = wait_for_events(epoll_.get(), events,
                                      already_ready > 0 ? Duration::zero() : deadline.remaining());
    for (int i = 0; i < count; ++i) {
      const uint64_t token = events[static_cast<std::size_t>(i)].data.u64;
      const uint32_t what = events[static_cast<std::size_t>(i)].events;
      Entry* const entry = find(token);
      if (entry->socket == nullptr) {
        ready_.push_back({token, (what & ~uint32_t{EPOLLOUT}) != 0, (what & EPOLLOUT) != 0});
      } else if (std::none_of(ready_.begin(), ready_.begin() + static_cast<long>(already_ready),
                              [&](const Ready& ready) { return ready.token == token; })) {
        collect(*entry, true);
      }
    }
    // An announcement need not mean a message: then wait on.
  } while (ready_.empty() && !deadline.has_passed());
  return ready_;
}

}  // namespace trireme::zmq
