#include "engine_core/span/group_thread.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "common/log.h"
#include "common/zmq/poller.h"
#include "common/zmq/router.h"
#include "common/zmq/wakeup.h"
#include "proto/messages.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kSocketToken = 1;
constexpr uint64_t kWakeupToken = 2;
constexpr Duration kWaitingInterval = std::chrono::seconds(10);
constexpr Duration kFirstWaiting = std::chrono::seconds(3);
constexpr int kMessagesPerTurnMax = 64;

}  // namespace

struct GroupThread::Parts {
  Parts(zmq::Router router, zmq::Poller waiter, zmq::Wakeup wake, GroupHostConfig config,
        std::string at, uint32_t rank, Bell& owner_bell)
      : socket(std::move(router)),
        poller(std::move(waiter)),
        wakeup(std::move(wake)),
        host(std::move(config)),
        endpoint(std::move(at)),
        engine_rank(rank),
        bell(owner_bell) {}

  void run() noexcept;
  void read(Instant now);
  void write();
  void tell(Instant now);
  void take_wishes();

  zmq::Router socket;
  zmq::Poller poller;
  zmq::Wakeup wakeup;
  GroupHost host;  // The thread's; the plan stays as it is once is_formed.
  std::string endpoint;
  uint32_t engine_rank;
  Bell& bell;
  zmq::Message message;
  wire::Buffer buffer;
  Instant waiting_at = now() + kFirstWaiting;

  std::atomic<bool> is_formed{false};
  std::atomic<bool> is_over{false};
  Status why = absl::OkStatus();  // Written before is_over.
  std::atomic<bool> is_serving{false};
  std::atomic<uint64_t> late_step{0};
  std::atomic<bool> is_stopping{false};
  Status stop_reason = absl::OkStatus();  // Written before is_stopping.
  std::thread thread;
};

StatusOr<std::unique_ptr<GroupThread>> GroupThread::start(const zmq::Context& context,
                                                          const std::string& endpoint,
                                                          GroupHostConfig config,
                                                          uint32_t engine_rank, Bell& bell) {
  TRIREME_ASSIGN_OR_RETURN(zmq::Router router, zmq::Router::create(context));
  if (const Status bound = router.bind(endpoint); !bound.ok()) {
    return annotate(bound, "--master-addr and --master-port");
  }
  TRIREME_ASSIGN_OR_RETURN(zmq::Poller poller, zmq::Poller::create());
  TRIREME_ASSIGN_OR_RETURN(zmq::Wakeup wakeup, zmq::Wakeup::create());
  auto parts = std::make_unique<Parts>(std::move(router), std::move(poller), std::move(wakeup),
                                       std::move(config), endpoint, engine_rank, bell);
  TRIREME_RETURN_IF_ERROR(parts->poller.add(parts->socket, kSocketToken));
  TRIREME_RETURN_IF_ERROR(parts->poller.add_fd(parts->wakeup.fd(), kWakeupToken));
  return std::unique_ptr<GroupThread>(new GroupThread(std::move(parts)));
}

GroupThread::GroupThread(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {
  parts_->thread = std::thread([own = parts_.get()] { own->run(); });
}

GroupThread::~GroupThread() { stop(Status(StatusCode::kCancelled, "stopped")); }

bool GroupThread::is_formed() const { return parts_->is_formed.load(); }
const wire::GroupPlan& GroupThread::plan() const { return parts_->host.plan(); }

Status GroupThread::health() const {
  return parts_->is_over.load() ? parts_->why : absl::OkStatus();
}

void GroupThread::set_serving() {
  parts_->is_serving.store(true);
  parts_->wakeup.notify();
}

void GroupThread::set_late_step(StepId step) { parts_->late_step.store(step.value); }

void GroupThread::stop(const Status& why) noexcept {
  if (!parts_->thread.joinable()) return;
  parts_->stop_reason = why;
  parts_->is_stopping.store(true);
  parts_->wakeup.notify();
  parts_->thread.join();
}

void GroupThread::Parts::run() noexcept {
  const std::string name = "eng" + std::to_string(engine_rank) + "/group";
  ::pthread_setname_np(::pthread_self(), name.c_str());
  while (true) {
    const Instant turn = now();
    host.set_late_step(StepId{late_step.load()});
    read(turn);
    take_wishes();
    host.tick(turn);
    tell(turn);
    write();
    if (is_stopping.load()) return;
    const Instant waiting = is_formed.load() ? Instant::max() : waiting_at;
    (void)poller.wait(Deadline(std::min(host.wakeup(), waiting)));
  }
}

void GroupThread::Parts::read(Instant now) {
  for (int i = 0; i < kMessagesPerTurnMax && socket.try_receive(message); ++i) {
    if (message.frame_count() != 1) continue;
    const auto known = wire::unpack_any<FromSeat>(message.frame(0));
    if (known.ok()) {
      host.on_message(now, message.peer(), *known);
    } else {
      log::debug("group_message_dropped", {{"reason", std::string(known.status().message())}});
    }
  }
}

void GroupThread::Parts::take_wishes() {
  wakeup.drain();
  if (is_serving.load()) host.set_serving();
  if (is_stopping.load()) host.end(stop_reason);
}

// What has changed, for the owner and for people.
void GroupThread::Parts::tell(Instant now) {
  if (const auto refusal = host.take_refusal()) {
    log::warning("workers_refused", {{"reason", *refusal}});
  }
  if (host.is_formed() && !is_formed.load()) {
    is_formed.store(true);
    bell.ring();
  }
  if (!host.why().ok() && !is_over.load()) {
    why = host.why();
    is_over.store(true);
    bell.ring();
  }
  if (now < waiting_at || is_formed.load() || is_over.load()) return;
  waiting_at = now + kWaitingInterval;
  log::warning("waiting_for_workers", {{"ranks", host.missing()}, {"at", endpoint}});
}

void GroupThread::Parts::write() {
  for (const GroupHost::Letter& letter : host.take_outgoing()) {
    buffer.clear();
    std::visit([&](const auto& known) { wire::pack(known, buffer); }, letter.message);
    // What does not get through is repeated by the protocol, or the lease tells.
    (void)socket.try_send(letter.to, buffer);
  }
}

}  // namespace trireme::engine
