#include "engine_core/io_thread.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <utility>

#include "common/log.h"
#include "common/zmq/context.h"
#include "common/zmq/poller.h"
#include "engine_core/front_end_links.h"
#include "engine_core/kernel_set.h"
#include "engine_core/lockstep/peer_links.h"
#include "engine_core/span/listeners.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kBellToken = 1;
constexpr uint64_t kMemberToken = 2;
constexpr uint64_t kPeersToken = 3;  // And the next one.
constexpr int kOutputsPerTurnMax = 256;
constexpr Duration kRetryInterval = std::chrono::milliseconds(2);
// A KeepAlive that is due but not earned (the main loop stands still) must not make us spin.
constexpr Duration kSleepMin = std::chrono::milliseconds(10);

struct ReadyNews {
  wire::EngineReady engine;
  wire::MemberReady member;
};

std::string identity_of(EngineId engine, Incarnation incarnation) {
  return "e" + std::to_string(engine.value) + "-" + std::to_string(incarnation.value);
}

}  // namespace

struct IoThread::Parts {
  Parts(EngineId id, std::unique_ptr<zmq::Context> own_context, zmq::Poller own_poller,
        member::MemberLink own_link, Duration lease, EngineChannel& shared)
      : engine(id),
        channel(shared),
        context(std::move(own_context)),
        poller(std::move(own_poller)),
        link(std::move(own_link)),
        links(*context, poller, identity_of(id, link.identity().incarnation)),
        beat_interval(lease / 4) {}

  void run() noexcept;
  int take_ready_news();
  int send_outputs();
  int carry_steps();
  void beat(Instant now);
  int do_member_work(Instant now);
  void on(const member::Accepted& event);
  void on(const member::Refused& event);
  void on(const member::CoordinatorSilent& event);
  void on(const wire::View& view) { links.on_view(view, channel); }
  void on(const wire::LoadBoard&) {}
  void on(const wire::StartWave& start) {
    links.post(WaveStarted{start, node_names(start.ranks)}, channel);
  }
  [[nodiscard]] std::vector<std::string> node_names(const std::vector<uint32_t>& ranks) const;
  void wait(Instant now, bool has_room);

  EngineId engine;
  EngineChannel& channel;
  std::unique_ptr<zmq::Context> context;
  zmq::Poller poller;
  member::MemberLink link;
  FrontEndLinks links;               // After poller and context: goes first.
  std::unique_ptr<PeerLinks> peers;  // Of a lockstep group on several nodes; else null.
  SpscRing<std::unique_ptr<ReadyNews>> ready_news{2};
  std::atomic<bool> is_stopping{false};
  std::string refused_for;
  std::string stop_reason;  // Written before is_stopping.

  Duration beat_interval;
  Instant beat_at{};
  uint64_t turns_seen = 0;
  bool is_ready = false;
  bool is_draining = false;
};

StatusOr<std::unique_ptr<IoThread>> IoThread::start(const ServeOptions& options,
                                                    Incarnation incarnation,
                                                    EngineChannel& channel) {
  const uint32_t rank = options.internal.engine_rank;
  TRIREME_ASSIGN_OR_RETURN(auto context, member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(auto poller, zmq::Poller::create());
  std::vector<wire::ConfigEntry> config = member::cluster_config(options);
  append_kernel_set(options, config);
  TRIREME_ASSIGN_OR_RETURN(auto link, member::MemberLink::open(*context, options,
                                                               {.role = wire::Role::kEngine,
                                                                .index = rank,
                                                                .incarnation = incarnation,
                                                                .config = std::move(config)}));
  auto parts = std::make_unique<Parts>(
      EngineId{rank}, std::move(context), std::move(poller), std::move(link),
      std::chrono::milliseconds(options.cluster.lease_milliseconds), channel);
  TRIREME_RETURN_IF_ERROR(parts->poller.add_fd(channel.io_bell.fd(), kBellToken));
  TRIREME_RETURN_IF_ERROR(parts->poller.add(parts->link.socket(), kMemberToken));
  if (options.parallel.expert_parallel && !member::is_one_node(options)) {
    TRIREME_ASSIGN_OR_RETURN(const std::string address,
                             address_towards(member::control_host(options)));
    TRIREME_ASSIGN_OR_RETURN(
        parts->peers,
        PeerLinks::listen(*parts->context, parts->poller, address,
                          "s" + identity_of(EngineId{rank}, incarnation), kPeersToken));
  }
  return std::unique_ptr<IoThread>(new IoThread(std::move(parts)));
}

IoThread::IoThread(std::unique_ptr<Parts> parts)
    : parts_(std::move(parts)), thread_([own = parts_.get()] { own->run(); }) {}

IoThread::~IoThread() { stop("stopped"); }

void IoThread::set_ready(const wire::EngineReady& engine, const wire::MemberReady& member) {
  parts_->ready_news.push(std::make_unique<ReadyNews>(ReadyNews{engine, member}));
  parts_->channel.io_bell.ring();
}

std::string IoThread::peers_endpoint() const {
  return parts_->peers == nullptr ? "" : parts_->peers->endpoint();
}

void IoThread::stop(std::string reason) noexcept {
  if (!thread_.joinable()) return;
  parts_->stop_reason = std::move(reason);
  parts_->is_stopping.store(true);
  parts_->channel.io_bell.ring();
  thread_.join();
}

void IoThread::Parts::run() noexcept {
  const std::string name = "eng" + std::to_string(engine.value) + "/io";
  ::pthread_setname_np(::pthread_self(), name.c_str());
  Instant flush_until = Instant::max();
  while (true) {
    const Instant turn = now();
    int work = take_ready_news() + links.retry();
    const bool may_stop = is_stopping.load() && flush_until <= turn;
    if (is_stopping.load() && flush_until == Instant::max()) flush_until = turn + kFlushMax;
    work += carry_steps();
    work += send_outputs();
    if (is_stopping.load() && channel.output.is_empty() && !links.has_backlog()) break;
    if (may_stop) break;
    const bool has_room = links.read(channel, work);
    beat(turn);
    work += do_member_work(turn);
    if (work == 0 || !has_room) wait(turn, has_room);
  }
  link.leave(stop_reason);
}

int IoThread::Parts::take_ready_news() {
  auto news = ready_news.pop();
  if (!news) return 0;
  is_ready = true;
  links.set_ready((*news)->engine);
  link.set_ready((*news)->member);
  links.on_view(link.view(), channel);
  return 1;
}

int IoThread::Parts::send_outputs() {
  if (channel.is_draining.load(std::memory_order_relaxed) && !std::exchange(is_draining, true)) {
    link.set_draining();
  }
  int count = 0;
  while (auto standing = channel.standings.pop()) {
    ++count;
    link.set_wave(standing->event, standing->wave, std::move(standing->awaits));
  }
  while (count < kOutputsPerTurnMax) {
    auto message = channel.output.pop();
    if (!message) break;
    ++count;
    links.send(**message, channel);
    if (!(*message)->reply) link.report_load((*message)->outputs.stats);
    (void)channel.spent.push(std::move(*message));
  }
  return count;
}

int IoThread::Parts::carry_steps() {
  if (peers == nullptr) return 0;
  int count = 0;
  while (const auto mail = channel.step_mail.pop()) {
    ++count;
    if (mail->addresses.empty()) {
      peers->send(mail->node, mail->message);
    } else {
      peers->begin_wave(mail->wave, mail->node, mail->addresses);
    }
  }
  while (const auto message = peers->receive()) {
    ++count;
    links.post(StepHeard{*message}, channel);
  }
  return count;
}

void IoThread::Parts::beat(Instant now) {
  if (now < beat_at) return;
  beat_at = now + beat_interval;
  links.beat(channel);
  channel.beat_wanted.store(true);
  channel.main_bell.ring();
}

int IoThread::Parts::do_member_work(Instant now) {
  const uint64_t turns = channel.main_turns.load(std::memory_order_relaxed);
  // While it loads the model the main thread makes no turns and is alive.
  const bool is_alive = !is_ready || is_stopping.load() || turns != turns_seen;
  turns_seen = turns;
  int work = link.do_work(now, is_alive);
  while (auto event = link.next_event()) {
    ++work;
    std::visit([this](const auto& known) { on(known); }, *event);
  }
  return work;
}

// The view that a wave was made from came before it.
std::vector<std::string> IoThread::Parts::node_names(const std::vector<uint32_t>& ranks) const {
  std::map<uint32_t, std::string_view> nodes;
  for (const wire::Member& member : link.view().members) {
    if (member.role == wire::Role::kEngine) nodes[member.index] = member.node;
  }
  std::vector<std::string> names;
  names.reserve(ranks.size());
  for (const uint32_t rank : ranks) names.emplace_back(nodes[rank]);
  return names;
}

void IoThread::Parts::on(const member::Accepted& event) {
  log::info("coordinator_joined",
            {{"epoch", event.init.epoch.value}, {"is_new_coordinator", event.is_new_coordinator}});
}

void IoThread::Parts::on(const member::Refused& event) {
  if (refused_for != event.reason) {  // It asks again and again.
    log::warning("coordinator_refuses", {{"reason", event.reason}, {"is_final", event.is_final}});
    refused_for = event.reason;
  }
  if (event.is_final) links.post(MembershipRefused{event.reason}, channel);
}

void IoThread::Parts::on(const member::CoordinatorSilent& event) {
  const auto silent = std::chrono::duration_cast<std::chrono::milliseconds>(event.silence);
  log::warning("coordinator_silent", {{"milliseconds", silent.count()}});
}

void IoThread::Parts::wait(Instant now, bool has_room) {
  if (!has_room) {  // The sockets have something, so polling them would not wait.
    channel.input_is_blocked.store(true);
    channel.io_bell.wait(Deadline(now + kRetryInterval), {},
                         [this] { return !channel.input.is_full(); });
    return;
  }
  Instant until = std::min(std::max(link.wakeup(), now + kSleepMin), beat_at);
  if (links.has_backlog()) until = std::min(until, now + kRetryInterval);
  channel.io_bell.about_to_wait();
  if (channel.output.is_empty() && channel.standings.is_empty() && channel.step_mail.is_empty() &&
      ready_news.is_empty() && !is_stopping.load()) {
    (void)poller.wait(Deadline(until));
  }
  channel.io_bell.woke_up();
}

}  // namespace trireme::engine
