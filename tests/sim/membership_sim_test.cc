// Simulation of membership: the real coordinator and the real members, fake links, random faults.
//
// Goal: whatever is killed, frozen, cut off, delayed or started twice, and however often the
// coordinator restarts,
//   - at every observer epochs only grow, and all who hold (coordinator, epoch) hold the same view;
//   - no view has two entries for one place;
//   - a while after the faults end, everyone alive is in one view that all have, and nobody else
//   is.
// A failing seed is printed; MEMBERSHIP_SIM_SEED=<seed> runs it alone, MEMBERSHIP_SIM_SEEDS more.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cli/simulate/world.h"
#include "coordinator/coordinator_state.h"
#include "proto/member/member_state.h"

namespace trireme {
namespace {

using std::chrono::milliseconds;
using wire::MemberKey;
using wire::Role;

constexpr Duration kLease = milliseconds(1000);
constexpr uint32_t kTick = 25;  // Milliseconds between two turns of a process's loop.
constexpr uint32_t kFaultsEnd = 8'000;
constexpr uint32_t kSettle = 6'000;
constexpr uint32_t kCoordinator = 1'000'000;  // A link end; processes are 0, 1, 2, ...

struct Process {
  MemberKey key;
  member::MemberState state;
  bool is_alive = true;
  bool is_frozen = false;
  bool is_cut_off = false;
  Epoch epoch;
  std::vector<member::Incoming> inbox;  // What arrives while it is frozen.
};

class Cluster {
 public:
  Cluster(uint64_t seed, uint32_t engines) : world_(seed), engine_count_(engines) {
    for (uint32_t i = 0; i < engines; ++i) start_after(world_.random(500), Role::kEngine, i);
    for (uint32_t i = 0; i < 2; ++i) start_after(world_.random(500), Role::kApiServer, i);
    start_after(world_.random(500), Role::kNodeAgent, 0);
    world_.after(world_.random(800), [this] { start_coordinator(); });
  }

  void run() {
    for (uint32_t time = 200; time < kFaultsEnd; time += 1 + world_.random(700)) {
      world_.after(time, [this] { inject_fault(); });
    }
    (void)world_.run_until_quiet(kFaultsEnd);
    heal();
    (void)world_.run_until_quiet(kFaultsEnd + kSettle);
  }

  void check_settled() const {
    ASSERT_TRUE(coordinator_);
    const wire::View& agreed = coordinator_->view().published();
    std::set<MemberKey> live, alive;
    for (const wire::Member& member : agreed.members) {
      if (member.state == wire::MemberState::kLost) continue;
      live.insert({member.role, member.index, member.incarnation});
      EXPECT_EQ(member.state, wire::MemberState::kReady);
    }
    for (const auto& process : processes_) {
      if (!process->is_alive) continue;
      alive.insert(process->key);
      EXPECT_TRUE(process->state.is_joined());
      EXPECT_EQ(process->state.view(), agreed);
    }
    EXPECT_EQ(live, alive);
  }

 private:
  [[nodiscard]] Instant now() const { return Instant(milliseconds(1'000'000 + world_.now())); }

  void start_after(uint32_t delay, Role role, uint32_t index) {
    world_.after(delay, [this, role, index] {
      if (world_.now() < kFaultsEnd || !is_occupied(role, index)) start(role, index);
    });
  }

  [[nodiscard]] bool is_occupied(Role role, uint32_t index) const {
    for (const auto& process : processes_) {
      const bool is_there = process->key.role == role && process->key.index == index;
      if (is_there && process->is_alive) return true;
    }
    return false;
  }

  void start(Role role, uint32_t index) {
    const MemberKey key{role, index, Incarnation{++lives_}};
    const LaunchId launch{world_.random(5) == 0 ? 2U : 1U};
    wire::Hello hello{.role = role,
                      .index = index,
                      .incarnation = key.incarnation,
                      .node = "front",
                      .pid = 1,
                      .launch = launch};
    processes_.push_back(
        std::make_unique<Process>(Process{.key = key, .state = {std::move(hello), kLease, now()}}));
    const auto id = static_cast<uint32_t>(processes_.size() - 1);
    world_.after(world_.random(1'000),
                 [this, id] { processes_[id]->state.set_ready({.block_count = 1 + id}); });
    turn(id);
  }

  void turn(uint32_t id) {
    Process& process = *processes_[id];
    if (!process.is_alive) return;
    if (!process.is_frozen) {
      for (const auto& message : std::exchange(process.inbox, {})) take(id, message);
      process.state.tick(now(), /*is_alive=*/true);
      flush(id);
    }
    world_.after(kTick, [this, id] { turn(id); });
  }

  void take(uint32_t id, const member::Incoming& message) {
    Process& process = *processes_[id];
    process.state.on_message(now(), message);
    while (auto event = process.state.next_event()) {
      if (const auto* view = std::get_if<wire::View>(&*event)) observe(process, *view);
      const auto* refused = std::get_if<member::Refused>(&*event);
      if (refused != nullptr && refused->is_final) process.is_alive = false;  // It ends.
    }
    flush(id);
  }

  void observe(Process& process, const wire::View& view) {
    ASSERT_GT(view.epoch, process.epoch);
    process.epoch = view.epoch;
    const auto [known, is_new] = views_.try_emplace({view.coordinator, view.epoch}, view);
    ASSERT_EQ(known->second, view);
    if (!is_new) return;
    std::set<std::pair<Role, uint32_t>> places;
    for (const wire::Member& member : view.members) {
      ASSERT_TRUE(places.insert({member.role, member.index}).second);
    }
  }

  void flush(uint32_t id) {
    for (const member::Outgoing& message : processes_[id]->state.take_outgoing()) {
      if (processes_[id]->is_cut_off) continue;
      world_.send(id, kCoordinator, [this, id, message] {
        if (!coordinator_ || processes_[id]->is_cut_off) return;
        std::visit([&](const auto& m) { coordinator_->on_message(now(), processes_[id]->key, m); },
                   message);
        flush_coordinator();
      });
    }
  }

  void start_coordinator() {
    if (coordinator_) return;
    coordinator_.emplace(
        coordinator::ViewOptions{
            .engine_count = engine_count_, .lease = kLease, .self = Incarnation{++lives_}},
        now());
    turn_coordinator(lives_);
  }

  void turn_coordinator(uint64_t life) {
    if (!coordinator_ || coordinator_->view().published().coordinator.value != life) return;
    coordinator_->tick(now());
    flush_coordinator();
    world_.after(kTick, [this, life] { turn_coordinator(life); });
  }

  void flush_coordinator() {
    for (const coordinator::Send& send : coordinator_->take_sends()) {
      for (const MemberKey& to : send.to) deliver(to, send.message);
    }
  }

  void deliver(const MemberKey& to, const coordinator::Outgoing& message) {
    for (uint32_t id = 0; id < processes_.size(); ++id) {
      if (processes_[id]->key != to || processes_[id]->is_cut_off) continue;
      world_.send(kCoordinator, id, [this, id, message] {
        Process& process = *processes_[id];
        if (!process.is_alive || process.is_cut_off) return;
        std::visit([&](const auto& m) { process.inbox.push_back(m); }, message);
      });
    }
  }

  Process* pick() {
    const auto id = world_.random(static_cast<uint32_t>(processes_.size()));
    return processes_[id]->is_alive ? processes_[id].get() : nullptr;
  }

  void inject_fault() {
    Process* const process = processes_.empty() ? nullptr : pick();
    switch (world_.random(7)) {
      case 0:
        coordinator_.reset();
        world_.after(world_.random(2'500), [this] { start_coordinator(); });
        return;
      case 1:
      case 2:
        if (process != nullptr) kill(*process, /*restarts=*/true);
        return;
      case 3:
        if (process != nullptr) for_a_while(process->is_cut_off);
        return;
      case 4:
        if (process != nullptr) for_a_while(process->is_frozen);
        return;
      case 5:  // Somebody starts it twice.
        if (process != nullptr) start(process->key.role, process->key.index);
        return;
      default:
        if (process != nullptr) process->state.report_load({.waiting = world_.random(100)});
        return;
    }
  }

  void for_a_while(bool& flag) {
    flag = true;
    world_.after(world_.random(3'000), [&flag] { flag = false; });  // Processes are never erased.
  }

  void kill(Process& process, bool restarts) {
    process.is_alive = false;
    process.inbox.clear();
    if (restarts) start_after(100 + world_.random(1'500), process.key.role, process.key.index);
    if (process.key.role != Role::kEngine || world_.random(3) == 0) return;
    for (const auto& agent : processes_) {  // Its node agent may see it die.
      if (!agent->is_alive || agent->key.role != Role::kNodeAgent) continue;
      agent->state.report_rank({.engine = EngineId{process.key.index},
                                .incarnation = process.key.incarnation,
                                .reason = "killed"});
    }
  }

  // Every place has one process again, all can talk, and a coordinator runs.
  void heal() {
    std::map<std::pair<Role, uint32_t>, Process*> kept;
    for (const auto& process : processes_) {
      process->is_frozen = process->is_cut_off = false;
      if (!process->is_alive) continue;
      Process*& place = kept[{process->key.role, process->key.index}];
      if (place != nullptr) kill(world_.random(2) == 0 ? *place : *process, /*restarts=*/false);
      if (place == nullptr || !place->is_alive) place = process.get();
    }
    start_coordinator();
  }

  sim::World world_;
  uint32_t engine_count_;
  std::optional<coordinator::CoordinatorState> coordinator_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::map<std::pair<Incarnation, Epoch>, wire::View> views_;
  uint64_t lives_ = 0;
};

uint64_t seed_from(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void run_seed(uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed=" << seed);
  Cluster cluster(seed, /*engines=*/1 + seed % 4);
  cluster.run();
  cluster.check_settled();
}

TEST(MembershipSimulation, everyone_alive_ends_in_one_view_for_every_seed) {
  if (std::getenv("MEMBERSHIP_SIM_SEED") != nullptr) {
    run_seed(seed_from("MEMBERSHIP_SIM_SEED", 0));
    return;
  }
  const uint64_t seeds = seed_from("MEMBERSHIP_SIM_SEEDS", 2'000);
  for (uint64_t seed = 0; seed < seeds && !HasFailure(); ++seed) run_seed(seed);
}

}  // namespace
}  // namespace trireme
