#include "common/zmq/handshake_monitor.h"

#include <pthread.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "common/log.h"
#include "common/zmq/monitor.h"

namespace trireme::zmq {
namespace {

constexpr Duration kLogInterval = std::chrono::seconds(10);
// Peers that end with a start that fails are not the reason for it.
constexpr Duration kQuietAtFirst = std::chrono::seconds(3);
constexpr int kEvents = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                        ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_MONITOR_STOPPED;

}  // namespace

// The first frame of libzmq's event: what and, in most, the file descriptor. The second repeats the
// address that was bound.
struct HandshakeMonitor::Event {
  static constexpr std::size_t kBytes = sizeof(uint16_t) + sizeof(uint32_t);
  uint16_t what = 0;
  int fd = -1;

  // Nothing when the context shuts down.
  static std::optional<Event> receive(void* socket) {
    Event event;
    char bytes[kBytes] = {};
    const auto receive_frame = [&](void* data, std::size_t size) {
      int got = 0;
      do {
        got = ::zmq_recv(socket, data, size, 0);
      } while (got < 0 && errno == EINTR);
      return got >= 0;
    };
    if (!receive_frame(bytes, kBytes) || !receive_frame(nullptr, 0)) return std::nullopt;
    std::memcpy(&event.what, bytes, sizeof(event.what));
    std::memcpy(&event.fd, bytes + sizeof(event.what), sizeof(event.fd));
    return event;
  }
};

StatusOr<std::unique_ptr<HandshakeMonitor>> HandshakeMonitor::start(void* context, void* socket,
                                                                    const std::string& endpoint) {
  TRIREME_ASSIGN_OR_RETURN(void* const events, start_monitor(context, socket, kEvents));
  std::unique_ptr<HandshakeMonitor> monitor(new HandshakeMonitor(socket, events, endpoint));
  monitor->thread_ = std::jthread([self = monitor.get()] { self->run(); });
  return monitor;
}

HandshakeMonitor::HandshakeMonitor(void* watched, void* events, std::string endpoint)
    : watched_(watched),
      events_(events),
      endpoint_(std::move(endpoint)),
      quiet_until_(now() + kQuietAtFirst) {}

HandshakeMonitor::~HandshakeMonitor() {
  stop_monitor(watched_);  // Its last event ends the thread.
  if (thread_.joinable()) {
    thread_.join();
  } else {
    ::zmq_close(events_);
  }
}

void HandshakeMonitor::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "handshakes");
  while (const auto event = Event::receive(events_)) {
    if (event->what == ZMQ_EVENT_MONITOR_STOPPED) break;
    take(*event);
  }
  ::zmq_close(events_);
}

void HandshakeMonitor::take(const Event& event) {
  if (event.what == ZMQ_EVENT_ACCEPTED) {
    in_progress_.push_back(event.fd);
  } else if (event.what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
    if (!in_progress_.empty()) in_progress_.pop_back();
  } else {
    ended_total_.fetch_add(1);
    if (std::erase(in_progress_, event.fd) > 0) count_failure();
  }
}

void HandshakeMonitor::count_failure() {
  const uint64_t total = failed_total_.fetch_add(1) + 1;
  if (now() < quiet_until_) return;
  quiet_until_ = now() + kLogInterval;
  log::warning("handshake_failed", {{"endpoint", endpoint_},
                                    {"reason",
                                     "a peer does not speak our protocol, or has "
                                     "another key, or gave up"},
                                    {"total", total}});
}

}  // namespace trireme::zmq
