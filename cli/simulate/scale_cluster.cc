#include "cli/simulate/scale_cluster.h"

#include <time.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "cli/simulate/rank_loop.h"
#include "cli/simulate/world.h"
#include "common/check.h"
#include "common/status.h"
#include "coordinator/coordinator_state.h"
#include "engine_core/lockstep/lockstep.h"
#include "engine_core/lockstep/record_table.h"
#include "engine_core/lockstep/step_tree.h"
#include "proto/member/member_state.h"
#include "proto/messages.h"

namespace trireme::sim {
namespace {

using engine::Lockstep;
using engine::StepTree;
using engine::TreeMessage;
using wire::MemberKey;

// Microseconds. The events fall between two signs of life, which all members send at about the same
// time.
constexpr uint32_t kTurn = 50'000;  // Between two turns of a member to which nothing comes.
constexpr uint32_t kCoordinatorTurn = 1'000;
constexpr uint32_t kStep = 10'000;
constexpr uint64_t kWorkComes = 1'600'000;
constexpr uint64_t kRankDies = 1'900'000;
constexpr uint64_t kEnd = 2'000'000;
constexpr uint32_t kSettle = 50'000;  // After an event.

double cpu_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

wire::MemberReady addresses_of(uint32_t rank, uint32_t node) {
  const std::string host = absl::StrFormat("tcp://10.0.%u.%u", node / 250, 1 + node % 250);
  return {.addresses = {absl::StrFormat("%s:%u", host, 40'000 + rank),
                        absl::StrFormat("%s:%u#%016x", host, 50'000 + rank, rank)},
          .block_count = 1,
          .worker_pids = {rank}};
}

class ScaleCluster {
 public:
  explicit ScaleCluster(const ScaleOptions& options)
      : options_(options),
        world_(/*seed=*/0),
        coordinator_({.engine_count = options.rank_count, .self = Incarnation{1}}, now(),
                     wave_base(1)) {
    const uint32_t node_count =
        (options.rank_count + options.ranks_per_node - 1) / options.ranks_per_node;
    for (uint32_t i = 0; i < node_count; ++i) nodes_.emplace_back(options.rank_count);
    for (uint32_t i = 0; i < options.rank_count; ++i) add_member(wire::Role::kEngine, i);
    add_member(wire::Role::kNodeAgent, 0);
    for (uint32_t id = 0; id < members_.size(); ++id) wake(id);
    wake_coordinator_often();
  }

  ScaleReport run() {
    run_until(kWorkComes);
    report_.node_count = static_cast<uint32_t>(nodes_.size());
    for (uint32_t node = report_.node_count - 1; node > 0; node = StepTree::parent_of(node)) {
      ++report_.depth;
    }
    report_.view_bytes = packed_size(coordinator_.view().published());
    report_.start = measure(kWorkComes, [this] { give_work(); });
    report_.start_us = entered_at_ - kWorkComes;
    const WaveId first = coordinator_.waves().wave();
    run_until(kRankDies);
    measure_agreements(first);
    report_.loss = measure(kRankDies, [this] { kill_rank(); });
    report_.view_us = viewed_at_ - kRankDies;
    run_until(kEnd);
    report_.step_again_us = steps_.at({coordinator_.waves().wave(), 1}).agreed_at - kRankDies;
    return report_;
  }

 private:
  struct Member {
    Member(wire::Hello hello, Instant now)
        : key{hello.role, hello.index, hello.incarnation},
          member(std::move(hello), coordinator::ViewOptions{}.lease, now),
          lockstep(EngineId{key.index}) {}
    MemberKey key;
    member::MemberState member;
    Lockstep lockstep;
    bool is_alive = true;
    bool has_work = false;
    bool is_computing = false;
    uint64_t computation = 0;
  };
  // What the ranks of a node have of each other and of the other nodes.
  struct Node {
    explicit Node(uint32_t rank_count) : records(rank_count) {}
    engine::RecordTable records;
    WaveId wave;
    std::optional<StepTree> tree;
    std::vector<uint32_t> ranks;  // Of the wave.
    std::vector<uint32_t> nodes;  // By their number in the wave.
    uint64_t posted = 0;
    uint64_t told = 0;
    std::vector<std::pair<uint32_t, TreeMessage>> early;  // From who was in the next wave before.
  };
  struct Mail {
    MemberKey from;
    wire::Buffer bytes;
  };
  struct Step {
    uint64_t posted_at = 0;  // The last record.
    uint64_t agreed_at = 0;  // The last rank.
    uint32_t agreed = 0;
    uint64_t messages = 0;
  };

  // --- The world. ---
  [[nodiscard]] Instant now() const {
    return Instant(std::chrono::seconds(1'000) + std::chrono::microseconds(world_.now()));
  }
  void run_until(uint64_t time) { (void)world_.run_until_quiet(time); }
  template <typename Event>
  CoordinatorWork measure(uint64_t time, const Event& event) {
    world_.after(static_cast<uint32_t>(time - world_.now()), [this, event] {
      work_ = {};
      event();
    });
    run_until(time + kSettle);
    return work_;
  }

  // --- Members. ---
  void add_member(wire::Role role, uint32_t index) {
    const uint32_t node = index / options_.ranks_per_node;
    wire::Hello hello{.role = role,
                      .index = index,
                      .incarnation = Incarnation{2 + members_.size()},
                      .node = absl::StrFormat("node-%u", node),
                      .launch = LaunchId{1 + uint64_t{node}}};
    members_.push_back(std::make_unique<Member>(std::move(hello), now()));
    members_.back()->member.set_ready(addresses_of(index, node));
  }
  [[nodiscard]] Member& agent() const { return *members_.back(); }
  [[nodiscard]] Member& find(const MemberKey& key) const {
    return key.role == wire::Role::kEngine ? *members_[key.index] : agent();
  }
  void wake(uint32_t id) {
    turn(*members_[id]);
    world_.after(kTurn, [this, id] { wake(id); });
  }
  void turn(Member& rank) {
    if (!rank.is_alive) return;
    rank.member.tick(now(), /*is_alive=*/true);
    while (auto event = rank.member.next_event()) {
      if (std::holds_alternative<wire::View>(*event)) viewed_at_ = world_.now();
      if (const auto* start = std::get_if<wire::StartWave>(&*event)) rank.lockstep.on_start(*start);
    }
    if (rank.key.role == wire::Role::kEngine) step_on(rank);
    flush(rank);
  }
  void flush(Member& from) {
    for (const member::Outgoing& message : from.member.take_outgoing()) {
      Mail mail{.from = from.key};
      std::visit([&](const auto& m) { wire::pack(m, mail.bytes); }, message);
      world_.after(options_.network_us, [this, mail = std::move(mail)] {
        inbox_.push_back(mail);
        if (std::exchange(is_coordinator_woken_, true)) return;
        world_.after(0, [this] { turn_coordinator(); });  // All of this moment have come by then.
      });
    }
  }

  // --- Events. ---
  void give_work() {
    Member& rank = *members_[options_.rank_count - 1];
    rank.has_work = true;
    turn(rank);
  }
  void kill_rank() {
    Member& rank = *members_.front();
    rank.is_alive = false;
    agent().member.report_rank({.engine = EngineId{rank.key.index},
                                .incarnation = rank.key.incarnation,
                                .reason = "killed by signal 9 (SIGKILL)",
                                .restarts = 1});
    turn(agent());
  }

  // --- A rank's loop, as the product's is. ---
  void step_on(Member& rank) {
    sim::step_on(
        rank.lockstep, [&] { post(rank); }, [&] { return agree(rank); },
        [&] { return compute(rank); });
    rank.member.set_wave(standing_of(rank.lockstep, rank.has_work), rank.lockstep.wave());
  }

  void post(Member& rank) {
    const engine::StepRecord record = rank.lockstep.post(rank.has_work);
    if (record.step == 1) entered_at_ = world_.now();
    steps_[{record.wave, record.step}].posted_at = world_.now();
    const uint32_t index = rank.key.index / options_.ranks_per_node;
    if (nodes_[index].wave < record.wave) enter(index, rank.lockstep.start());
    world_.after(options_.node_us, [this, index, from = rank.key.index, record] {
      nodes_[index].records.put(from, record);
      gather(index);
    });
  }

  bool agree(Member& rank) {
    const Node& node = nodes_[rank.key.index / options_.ranks_per_node];
    if (node.wave != rank.lockstep.wave()) return false;
    const auto all = node.tree->result(rank.lockstep.step());
    if (!all) return false;
    Step& step = steps_[{rank.lockstep.wave(), rank.lockstep.step()}];
    step.agreed_at = world_.now();
    ++step.agreed;
    (void)rank.lockstep.on_agreed(*all);
    return true;
  }

  bool compute(Member& rank) {
    if (rank.lockstep.must_break()) {
      ++rank.computation;
      rank.is_computing = false;
      rank.lockstep.on_step_done(/*is_abandoned=*/true);
      return true;
    }
    if (std::exchange(rank.is_computing, true)) return false;
    world_.after(kStep, [this, &rank, computation = ++rank.computation] {
      if (!rank.is_alive || rank.computation != computation) return;
      rank.is_computing = false;
      rank.lockstep.on_step_done(/*is_abandoned=*/false);
      turn(rank);
    });
    return false;
  }

  // --- A node's exchange. ---
  void enter(uint32_t index, const wire::StartWave& start) {
    Node& node = nodes_[index];
    node.wave = start.wave;
    node.posted = node.told = 0;
    node.ranks.clear();
    node.nodes.clear();
    uint32_t own = 0;
    for (std::size_t i = 0; i < start.ranks.size(); ++i) {
      const uint32_t number = start.nodes.empty() ? 0 : start.nodes[i];
      const uint32_t at = start.ranks[i] / options_.ranks_per_node;
      if (number == node.nodes.size()) node.nodes.push_back(at);
      if (at != index) continue;
      own = number;
      node.ranks.push_back(start.ranks[i]);
    }
    node.tree.emplace(start.wave, own, static_cast<uint32_t>(node.nodes.size()));
    for (const auto& [from, message] : std::exchange(node.early, {})) {
      node.tree->on_message(from, message);
    }
  }
  void gather(uint32_t index) {
    Node& node = nodes_[index];
    if (const auto own = node.records.gather(node.wave, node.posted + 1, node.ranks)) {
      node.tree->post(++node.posted, *own);
    }
    pass_on(index);
  }
  void hear(uint32_t index, uint32_t from, const TreeMessage& message) {
    Node& node = nodes_[index];
    if (message.wave > node.wave) {
      node.early.emplace_back(from, message);
      return;
    }
    node.tree->on_message(from, message);
    pass_on(index);
  }
  void pass_on(uint32_t index) {
    Node& node = nodes_[index];
    for (const StepTree::Send& send : node.tree->take_sends()) {
      ++steps_[{send.message.wave, send.message.step}].messages;
      world_.after(options_.network_us, [this, to = node.nodes[send.node], from = node.tree->node(),
                                         message = send.message] { hear(to, from, message); });
    }
    if (node.told == node.posted || !node.tree->result(node.posted)) return;
    node.told = node.posted;
    for (const uint32_t rank : node.ranks) {
      world_.after(options_.node_us, [this, rank] { turn(*members_[rank]); });
    }
  }

  // --- The coordinator. ---
  void wake_coordinator_often() {
    turn_coordinator();
    world_.after(kCoordinatorTurn, [this] { wake_coordinator_often(); });
  }
  void turn_coordinator() {
    is_coordinator_woken_ = false;
    const double begin = cpu_us();
    for (const Mail& mail : inbox_) {
      const auto message = wire::unpack_any<coordinator::Incoming>(mail.bytes);
      TRIREME_CHECK(message.ok(), "we have packed it ourselves");
      coordinator_.on_message(now(), mail.from, *message);
    }
    work_.messages_in += inbox_.size();
    inbox_.clear();
    coordinator_.tick(now());
    std::vector<coordinator::Send> sends = coordinator_.take_sends();
    for (const coordinator::Send& send : sends) count(send);
    work_.cpu_us += cpu_us() - begin;
    for (coordinator::Send& send : sends) deliver(send);
  }
  void count(const coordinator::Send& send) {
    const std::size_t bytes =
        std::visit([this](const auto& m) { return packed_size(m); }, send.message);
    work_.messages_out += send.to.size();
    work_.bytes_out += send.to.size() * bytes;
    if (std::holds_alternative<wire::StartWave>(send.message)) {
      report_.start_bytes = std::max<uint64_t>(report_.start_bytes, bytes);
    }
  }
  void deliver(coordinator::Send& send) {
    // No machine in here reads them, and n copies of n addresses are many.
    if (auto* start = std::get_if<wire::StartWave>(&send.message)) start->addresses.clear();
    const auto message = std::make_shared<const coordinator::Outgoing>(std::move(send.message));
    for (const MemberKey& to : send.to) {
      world_.after(options_.network_us, [this, to, message] {
        Member& receiver = find(to);
        if (!receiver.is_alive) return;
        std::visit([&](const auto& m) { receiver.member.on_message(now(), m); }, *message);
        turn(receiver);
      });
    }
  }
  template <typename Message>
  [[nodiscard]] std::size_t packed_size(const Message& message) {
    buffer_.clear();
    wire::pack(message, buffer_);
    return buffer_.size();
  }

  void measure_agreements(WaveId wave) {
    for (const auto& [id, step] : steps_) {
      // The first waits for ranks that are not in the wave yet.
      if (id.first != wave || id.second == 1 || step.agreed < options_.rank_count) continue;
      report_.agreement_us = std::max(report_.agreement_us, step.agreed_at - step.posted_at);
      report_.agreement_messages = std::max(report_.agreement_messages, step.messages);
    }
  }

  ScaleOptions options_;
  World world_;
  coordinator::CoordinatorState coordinator_;
  std::vector<Mail> inbox_;
  bool is_coordinator_woken_ = false;
  std::vector<std::unique_ptr<Member>> members_;  // The ranks, then a node agent.
  std::vector<Node> nodes_;
  std::map<std::pair<WaveId, uint64_t>, Step> steps_;
  uint64_t entered_at_ = 0;
  uint64_t viewed_at_ = 0;
  wire::Buffer buffer_;
  CoordinatorWork work_;
  ScaleReport report_;
};

}  // namespace

ScaleReport simulate_scale(const ScaleOptions& options) { return ScaleCluster(options).run(); }

}  // namespace trireme::sim
