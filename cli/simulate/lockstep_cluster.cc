#include "cli/simulate/lockstep_cluster.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "cli/simulate/lockstep_rank.h"
#include "cli/simulate/world.h"
#include "common/status.h"
#include "coordinator/coordinator_state.h"

namespace trireme::sim {
namespace {

using engine::Lockstep;
using engine::PauseMode;
using std::chrono::milliseconds;
using wire::MemberKey;

constexpr Duration kLease = milliseconds(1000);
constexpr uint32_t kTick = 25;  // Milliseconds between two turns of a process's loop.
constexpr uint32_t kSayAgain = 200;
constexpr uint32_t kLate = 1'000;  // Whom a rank has awaited for so long it tells.
constexpr uint32_t kFaultsEnd = 8'000;
constexpr uint32_t kCutEnd = 20'000;
constexpr uint32_t kResumeAfter = 2'000;
constexpr uint32_t kSettleMin = 6'000;
constexpr uint32_t kSettleMax =
    60'000;  // Who was left out twice comes back, and does all its work.
constexpr uint32_t kStillMax = 5'000;
constexpr uint32_t kQuiet = 1'000;            // At the end of it nothing may happen any more.
constexpr uint32_t kCoordinator = 1'000'000;  // Link ends; ranks are 0, 1, 2, ...
constexpr uint32_t kFrontEnd = 1'000'001;

class Cluster {
 public:
  explicit Cluster(const LockstepOptions& options)
      : options_(options), world_(options.seed), node_ranks_(draw_node_ranks()) {
    for (uint32_t rank = 0; rank < options.rank_count; rank += node_ranks_) {
      nodes_.emplace_back(rank, std::min(node_ranks_, options.rank_count - rank));
    }
    for (uint32_t i = 0; i < options.rank_count; ++i) start_after(world_.random(500), i);
    world_.after(world_.random(800), [this] { start_coordinator(); });
  }

  LockstepOutcome run() {
    const bool is_long = options_.has_cut || options_.has_flicker;
    const uint32_t faults_end = is_long ? kCutEnd : kFaultsEnd;
    for (uint32_t time = 500; time < faults_end; time += 1 + world_.random(400)) {
      world_.after(time, [this] { load(); });
    }
    if (options_.has_cut) {
      world_.after(2'000 + world_.random(2'000), [this] { cut_two_off(); });
      watch_progress();
    }
    if (options_.has_flicker) {
      flicker();
      freeze_again();
    }
    for (uint32_t time = 800; has_mixed_faults() && time < kFaultsEnd;
         time += 1 + world_.random(1'500)) {
      world_.after(time, [this] { inject_fault(); });
    }
    run_until(faults_end);
    heal();
    uint32_t end = faults_end + kSettleMin;
    for (run_until(end); !unrest().empty() && end < faults_end + kSettleMax;) {
      run_until(end += kQuiet);
    }
    if (const std::string why = unrest(); !why.empty()) fail(why);
    const WaveId wave = coordinator_->waves().wave();
    run_until(end + kQuiet);
    if (coordinator_->waves().wave() != wave) fail("waves start, and there is no work");
    return std::move(outcome_);
  }

 private:
  struct Step {
    std::vector<uint32_t> ranks;
    std::size_t ended = 0;
    bool has_cause = false;  // Somebody's record said that it had work.
  };

  // --- The world. ---
  [[nodiscard]] bool has_mixed_faults() const {
    return options_.has_faults && !options_.has_cut && !options_.has_flicker;
  }
  [[nodiscard]] uint32_t node_count() const { return static_cast<uint32_t>(nodes_.size()); }
  [[nodiscard]] uint32_t draw_node_ranks() {
    const uint32_t drawn = 1 + world_.random(3);
    const bool needs_two_nodes = options_.has_cut || options_.has_flicker;
    return needs_two_nodes && drawn >= options_.rank_count ? 1 : drawn;
  }
  void run_until(uint32_t time) {
    if (outcome_.failure.empty()) (void)world_.run_until_quiet(time);
  }
  [[nodiscard]] Instant now(int64_t skew = 0) const {
    return Instant(milliseconds(1'000'000 + static_cast<int64_t>(world_.now()) + skew));
  }
  template <typename... Arguments>
  void tell(const absl::FormatSpec<Arguments...>& format, const Arguments&... arguments) {
    if (!options_.keeps_history) return;
    outcome_.history.push_back(absl::StrFormat("%6u ms  ", world_.now()) +
                               absl::StrFormat(format, arguments...));
  }
  void fail(const std::string& what) {
    if (outcome_.failure.empty()) {
      outcome_.failure = absl::StrFormat("%s (at %u ms)", what, world_.now());
    }
    tell("FAILURE: %s", what);
  }

  // --- Processes. ---
  void start_after(uint32_t delay, uint32_t rank) {
    world_.after(delay, [this, rank] {
      if (find(rank) == nullptr) start(rank);
    });
  }
  [[nodiscard]] LockstepRank* find(uint32_t rank) const {
    for (const auto& process : ranks_) {
      if (process->is_alive && process->rank() == rank) return process.get();
    }
    return nullptr;
  }
  void start(uint32_t rank) {
    const auto id = static_cast<uint32_t>(ranks_.size());
    const uint32_t node = rank / node_ranks_;
    wire::Hello hello{.role = wire::Role::kEngine,
                      .index = rank,
                      .incarnation = Incarnation{++lives_},
                      .launch = LaunchId{node + 1}};
    ranks_.push_back(std::make_unique<LockstepRank>(
        std::move(hello), kLease, now(), node, nodes_[node],
        [this, id](uint32_t to, const wire::StepAgreement& m) { carry(id, to, m); }));
    LockstepRank& process = *ranks_.back();
    if (options_.has_faults) process.clock_skew = world_.random(100'000);
    tell("%s starts on node %u", process.name(), node);
    world_.after(world_.random(1'000), [this, id] {
      ranks_[id]->is_ready = true;
      ranks_[id]->member.set_ready({.addresses = {std::to_string(id)}, .block_count = 1});
    });
    turn(id);
  }

  void turn(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    if (!rank.is_alive) return;
    if (!rank.is_frozen) {
      if (world_.now() % kSayAgain < kTick) say_again(id);
      run_turn(id);
    }
    world_.after(kTick, [this, id] { turn(id); });
  }

  void run_turn(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    for (const auto& message : std::exchange(rank.inbox, {})) take(rank, message);
    rank.member.tick(now(rank.clock_skew), /*is_alive=*/true);
    for (const auto& hear : std::exchange(rank.heard, {})) hear();
    step_on(id);
    flush(id);
  }

  // --- A rank's loop, as the product's is. ---
  void take(LockstepRank& rank, const member::Incoming& message) {
    rank.member.on_message(now(rank.clock_skew), message);
    while (auto event = rank.member.next_event()) {
      const auto* start = std::get_if<wire::StartWave>(&*event);
      if (start == nullptr) continue;
      tell("%s hears of wave %u", rank.name(), wave_number(start->wave));
      rank.group.on_start(*start);
    }
  }

  void step_on(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    const auto place = [&] {
      return std::tuple(rank.lockstep().wave(), rank.lockstep().step(), rank.lockstep().phase());
    };
    const auto before = place();
    while (rank.lockstep().phase() == Lockstep::Phase::kRunning ? compute(id) : advance(id)) {
    }
    rank.tell_standing(/*is_late=*/world_.now() - rank.waits_since >= kLate);
    if (place() != before) wake_siblings(id);
    const bool is_idle = rank.work == 0;
    if (rank.is_draining && rank.group.is_free_to_go(is_idle, now(rank.clock_skew))) go(rank, id);
  }
  void go(LockstepRank& rank, uint32_t id) {
    tell("%s has drained", rank.name());
    rank.member.leave("drained");
    flush(id);
    rank.is_alive = false;
    start_after(100 + world_.random(1'500), rank.rank());
  }

  // Of its node: they look at the same memory.
  void wake_siblings(uint32_t id) {
    for (uint32_t other = 0; other < ranks_.size(); ++other) {
      if (other == id || ranks_[other]->node != ranks_[id]->node) continue;
      world_.after(world_.random(3), [this, other] {
        if (ranks_[other]->is_alive && !ranks_[other]->is_frozen) run_turn(other);
      });
    }
  }

  // True: a step runs now.
  bool advance(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    const Lockstep& lockstep = rank.lockstep();
    const WaveId before = lockstep.wave();
    const bool slept = lockstep.phase() == Lockstep::Phase::kAsleep;
    const bool has_work = rank.can_compute();
    const bool runs = rank.group.advance(has_work, now(rank.clock_skew));
    const bool sleeps = lockstep.phase() == Lockstep::Phase::kAsleep;
    if (!sleeps) note_posted(rank, has_work || lockstep.owes_step());
    if (!slept && (sleeps || lockstep.wave() != before)) {
      tell("%s %s wave %u", rank.name(), sleeps ? "ends" : "goes on from", wave_number(before));
    }
    if (lockstep.pause().mode == PauseMode::kAbort) rank.work = 0;
    if (!runs) return false;
    rank.is_dummy = !rank.can_compute() && !lockstep.owes_step();
    rank.waits_since = world_.now();
    const LockstepRank::Arrival arrival{rank.rank(), lockstep.wave(), lockstep.step()};
    rank.arrivals.insert(arrival);
    rank.own_arrivals.push_back(arrival);
    if (rank.own_arrivals.size() > 2) rank.own_arrivals.pop_front();
    say(id, arrival);
    return true;
  }

  void note_posted(LockstepRank& rank, bool has_work) {
    const Lockstep& lockstep = rank.lockstep();
    if (rank.posted.wave == lockstep.wave() && rank.posted.step == lockstep.step()) return;
    rank.posted = {lockstep.wave(), lockstep.step(), has_work};
    tell("%s posts wave %u step %u%s", rank.name(), wave_number(rank.posted.wave), rank.posted.step,
         has_work ? ", has work" : "");
  }

  bool compute(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    const Lockstep& lockstep = rank.lockstep();
    if (lockstep.must_break()) {
      ++rank.computation;
      rank.is_computing = false;
      ++outcome_.abandoned_steps;
      tell("%s breaks off wave %u step %u", rank.name(), wave_number(lockstep.wave()),
           lockstep.step());
      rank.group.on_step_done(/*is_abandoned=*/!rank.is_dummy);
      return true;
    }
    if (rank.is_computing) return false;
    for (const uint32_t other : lockstep.ranks()) {
      if (!rank.arrivals.contains({other, lockstep.wave(), lockstep.step()})) return false;
    }
    rank.is_computing = true;
    world_.after(world_.random(30),
                 [this, id, computation = ++rank.computation] { end_step(id, computation); });
    return false;
  }

  void end_step(uint32_t id, uint64_t computation) {
    LockstepRank& rank = *ranks_[id];
    if (!rank.is_alive || rank.computation != computation) return;
    if (rank.is_frozen) {
      world_.after(kTick, [this, id, computation] { end_step(id, computation); });
      return;
    }
    rank.is_computing = false;
    check_step(rank);
    if (!rank.is_dummy && rank.work > 0) --rank.work;
    rank.group.on_step_done(/*is_abandoned=*/false);
    std::erase_if(rank.arrivals, [&](const LockstepRank::Arrival& arrival) {
      return arrival.wave < rank.lockstep().wave();
    });
    step_on(id);
    flush(id);
  }

  void check_step(const LockstepRank& rank) {
    ++outcome_.steps;
    moved_at_ = world_.now();
    outcome_.dummy_steps += rank.is_dummy ? 1 : 0;
    const auto step = std::pair(rank.lockstep().wave(), rank.lockstep().step());
    const auto& ranks = rank.lockstep().ranks();
    Step& known = steps_.try_emplace(step, Step{.ranks = ranks}).first->second;
    if (known.ranks != ranks) fail("one step of two groups");
    if (std::find(ranks.begin(), ranks.end(), rank.rank()) == ranks.end()) {
      fail("a rank runs a step of others");
    }
    known.has_cause = known.has_cause || rank.posted.has_work;
    if (++known.ended == ranks.size() && !known.has_cause) fail("a step that nobody had work for");
    tell("%s ends wave %u step %u%s", rank.name(), wave_number(step.first), step.second,
         rank.is_dummy ? " (dummy)" : "");
  }

  // --- Links. ---
  void hear(uint32_t from, uint32_t to, std::function<void()> take) {
    if (!ranks_[to]->is_alive || is_cut(from, to)) return;
    world_.send(from, to, [this, from, to, take = std::move(take)] {
      if (!ranks_[to]->is_alive || is_cut(from, to)) return;
      ranks_[to]->heard.push_back(take);
      if (!ranks_[to]->is_frozen) run_turn(to);
    });
  }
  void say(uint32_t id, const LockstepRank::Arrival& arrival) {
    for (uint32_t to = 0; to < ranks_.size(); ++to) {
      if (to != id) hear(id, to, [this, to, arrival] { ranks_[to]->arrivals.insert(arrival); });
    }
  }
  void say_again(uint32_t id) {
    for (const auto& arrival : ranks_[id]->own_arrivals) say(id, arrival);
  }
  // What cannot be sent at once is dropped.
  void carry(uint32_t id, uint32_t to, const wire::StepAgreement& message) {
    constexpr uint32_t kOneInLost = 50;
    const bool may_lose = has_mixed_faults() && world_.now() < kFaultsEnd;
    if (may_lose && world_.random(kOneInLost) == 0) return;
    hear(id, to, [this, id, to, message] {
      ranks_[to]->mail.note_heard(id, message);
      ranks_[to]->group.hear(message);
    });
  }
  [[nodiscard]] bool is_cut(uint32_t from, uint32_t to) const {
    const uint32_t here = ranks_[from]->node;
    const uint32_t there = ranks_[to]->node;
    return here != there && (cut_nodes_.contains(here) || cut_nodes_.contains(there) ||
                             cut_links_.contains({here, there}));
  }
  [[nodiscard]] bool is_cut_off(uint32_t id) const { return cut_nodes_.contains(ranks_[id]->node); }

  void flush(uint32_t id) {
    for (const member::Outgoing& message : ranks_[id]->member.take_outgoing()) {
      if (is_cut_off(id)) continue;
      world_.send(id, kCoordinator, [this, id, message] {
        if (!coordinator_ || is_cut_off(id)) return;
        coordinator_inbox_.emplace_back(id, message);
        if (!coordinator_is_frozen_) take_coordinator_inbox();
      });
    }
  }

  // --- The coordinator. ---
  // A turn for each message: what is said of the time between two must be right as well.
  void take_coordinator_inbox() {
    for (const auto& [id, message] : std::exchange(coordinator_inbox_, {})) {
      std::visit([&](const auto& m) { coordinator_->on_message(now(), ranks_[id]->key, m); },
                 message);
      coordinator_->tick(now());
      flush_coordinator();
    }
  }
  void freeze_coordinator() {
    if (!coordinator_ || coordinator_is_frozen_) return;
    tell("coordinator is frozen");
    coordinator_is_frozen_ = true;
    world_.after(world_.random(3'000), [this, life = coordinator_->view().published().coordinator] {
      if (coordinator_ && coordinator_->view().published().coordinator == life) thaw_coordinator();
    });
  }
  void thaw_coordinator() {
    if (!std::exchange(coordinator_is_frozen_, false)) return;
    tell("coordinator goes on");
    take_coordinator_inbox();
  }
  void freeze_again() {
    world_.after(500 + world_.random(4'000), [this] {
      if (world_.now() >= kCutEnd) return;
      freeze_coordinator();
      freeze_again();
    });
  }
  void kill_coordinator() {
    coordinator_.reset();
    coordinator_inbox_.clear();
    coordinator_is_frozen_ = false;
  }
  void start_coordinator() {
    if (coordinator_) return;
    tell("coordinator#%u starts", lives_ + 1);
    coordinator_.emplace(
        coordinator::ViewOptions{
            .engine_count = options_.rank_count, .lease = kLease, .self = Incarnation{++lives_}},
        now(), wave_base(world_.now()));
    turn_coordinator(lives_);
  }
  void turn_coordinator(uint64_t life) {
    if (!coordinator_ || coordinator_->view().published().coordinator.value != life) return;
    if (!coordinator_is_frozen_) {
      coordinator_->tick(now());
      flush_coordinator();
    }
    world_.after(kTick, [this, life] { turn_coordinator(life); });
  }
  void flush_coordinator() {
    for (const std::string& news : coordinator_->take_news()) {
      ++outcome_.left_out;
      if (options_.has_flicker) fail("left out for a cut of a moment: " + news);
      tell("coordinator: %s", news);
    }
    for (const coordinator::Send& send : coordinator_->take_sends()) {
      if (const auto* start = std::get_if<wire::StartWave>(&send.message)) {
        tell("coordinator: wave %u to %u ranks, abandon below %u", wave_number(start->wave),
             send.to.size(), wave_number(start->abandon_below));
      }
      for (const MemberKey& to : send.to) deliver(to, send.message);
    }
  }
  void deliver(const MemberKey& to, const coordinator::Outgoing& message) {
    for (uint32_t id = 0; id < ranks_.size(); ++id) {
      if (ranks_[id]->key != to || is_cut_off(id)) continue;
      world_.send(kCoordinator, id, [this, id, message] {
        LockstepRank& rank = *ranks_[id];
        if (!rank.is_alive || is_cut_off(id)) return;
        std::visit([&](const auto& m) { rank.inbox.push_back(m); }, message);
        if (!rank.is_frozen) run_turn(id);
      });
    }
  }

  // --- Load and faults. ---
  [[nodiscard]] bool may_drain() const { return !options_.has_cut && !options_.has_flicker; }
  [[nodiscard]] LockstepRank* pick() { return find(world_.random(options_.rank_count)); }
  void load() {
    LockstepRank* const rank = pick();
    if (rank == nullptr) return;
    const uint32_t kind = world_.random(12);
    if (kind == 0) {
      rank->work = 0;  // Its client hangs up.
    } else if (kind == 2 && may_drain() && rank->is_ready && world_.random(4) == 0) {
      rank->is_draining = true;
      rank->member.set_draining();
      tell("%s drains", rank->name());
    } else if (kind == 1) {
      pause(static_cast<PauseMode>(world_.random(4)), world_.random(3) == 0);
    } else if (!rank->is_draining && (rank->lockstep().pause().mode == PauseMode::kNone ||
                                      rank->lockstep().pause().mode == PauseMode::kKeep)) {
      rank->work += 1 + static_cast<int>(world_.random(6));
    }
  }
  // The front end asks every rank, and the calls arrive one by one; or it is a node's own.
  void pause(PauseMode mode, bool is_of_node) {
    const uint32_t node = world_.random(node_count());
    tell("pause %u is asked for%s", static_cast<uint32_t>(mode),
         is_of_node ? absl::StrFormat(" at node %u", node) : "");
    const engine::PauseWish wish{.sequence = ++pauses_, .mode = mode};
    for (uint32_t id = 0; id < ranks_.size(); ++id) {
      if (is_of_node && ranks_[id]->node != node) continue;
      world_.send(kFrontEnd, id, [this, id, wish] {
        if (ranks_[id]->is_alive) ranks_[id]->group.wish_pause(wish);
      });
    }
  }

  void inject_fault() {
    LockstepRank* const rank = pick();
    switch (world_.random(8)) {
      case 0:
        tell("coordinator is killed");
        kill_coordinator();
        world_.after(world_.random(2'500), [this] { start_coordinator(); });
        return;
      case 1:
      case 2:
        if (rank == nullptr) return;
        tell("%s is killed", rank->name());
        rank->is_alive = false;
        start_after(100 + world_.random(1'500), rank->rank());
        return;
      case 3:
      case 4:
        return cut_node_off();
      case 5:
        return cut_link();
      case 6:
        return freeze_coordinator();
      default:
        if (rank == nullptr) return;
        tell("%s is frozen", rank->name());
        rank->is_frozen = true;
        world_.after(world_.random(3'000), [rank] { rank->is_frozen = false; });
    }
  }
  // From all others, and from the coordinator.
  void cut_node_off() {
    const uint32_t node = world_.random(node_count());
    tell("node %u is cut off", node);
    cut_nodes_.insert(node);
    world_.after(world_.random(3'000), [this, node] { cut_nodes_.erase(node); });
  }
  // Between two nodes, in one direction; both still hear the coordinator.
  void cut_link() {
    const std::pair link(world_.random(node_count()), world_.random(node_count()));
    tell("the link from node %u to node %u is cut", link.first, link.second);
    cut_links_.insert(link);
    world_.after(world_.random(3'000), [this, link] { cut_links_.erase(link); });
  }
  // Too short for anybody to be left out.
  void flicker() {
    world_.after(1'500 + world_.random(1'500), [this] {
      if (world_.now() >= kCutEnd || node_count() < 2) return;
      cut_two_off();
      world_.after(kLate + 200 + world_.random(500), [this] {
        tell("they hear each other again");
        cut_links_.clear();
        flicker();
      });
    });
  }
  // In one direction or both, until all is healed.
  void cut_two_off() {
    const uint32_t one = world_.random(node_count());
    const uint32_t other = (one + 1 + world_.random(node_count() - 1)) % node_count();
    const bool is_both = world_.random(2) == 0;
    tell("node %u is not heard by node %u%s", one, other, is_both ? ", nor does it hear it" : "");
    cut_links_.insert({one, other});
    if (is_both) cut_links_.insert({other, one});
  }
  void watch_progress() {
    const auto has_work = [this](const auto& rank) {
      return rank->can_compute() && coordinator_ && coordinator_->view().is_live(rank->key);
    };
    if (std::none_of(ranks_.begin(), ranks_.end(), has_work)) moved_at_ = world_.now();
    if (world_.now() - moved_at_ > kStillMax) fail("nobody steps, and there is work");
    world_.after(100, [this] { watch_progress(); });
  }
  void heal() {
    tell("all faults are healed");
    thaw_coordinator();
    cut_links_.clear();
    cut_nodes_.clear();
    for (const auto& rank : ranks_) rank->is_frozen = false;
    for (uint32_t i = 0; i < options_.rank_count; ++i) start_after(0, i);
    start_coordinator();
    // Who is left out hears of it when it is back.
    world_.after(kResumeAfter, [this] { resume_when_all_are_there(); });
  }
  void resume_when_all_are_there() {
    for (uint32_t i = 0; i < options_.rank_count; ++i) {
      const LockstepRank* const rank = find(i);
      if (rank != nullptr && !rank->is_draining) continue;
      return world_.after(kTick, [this] { resume_when_all_are_there(); });
    }
    pause(PauseMode::kNone, /*is_of_node=*/true);
  }

  // Why not all are at rest; empty: they are.
  [[nodiscard]] std::string unrest() const {
    for (uint32_t i = 0; i < options_.rank_count; ++i) {
      const LockstepRank* const rank = find(i);
      if (rank == nullptr) return absl::StrFormat("rank %u is not there", i);
      const auto& ranks = coordinator_->waves().ranks();
      if (!ranks.empty() && !ranks.contains(EngineId{i})) return rank->name() + " is to get a wave";
      if (std::string why = rank->unrest(); !why.empty()) return why;
    }
    return {};
  }

  LockstepOptions options_;
  World world_;
  const uint32_t node_ranks_;
  std::vector<LockstepNode> nodes_;
  std::optional<coordinator::CoordinatorState> coordinator_;
  std::vector<std::unique_ptr<LockstepRank>> ranks_;                      // All that ever were.
  std::vector<std::pair<uint32_t, member::Outgoing>> coordinator_inbox_;  // From whom, and what.
  bool coordinator_is_frozen_ = false;
  std::set<uint32_t> cut_nodes_;
  std::set<std::pair<uint32_t, uint32_t>> cut_links_;  // From one node to another.
  std::map<std::pair<WaveId, uint64_t>, Step> steps_;  // That ended somewhere.
  uint64_t lives_ = 0;
  uint64_t pauses_ = 0;
  uint64_t moved_at_ = 0;  // A step ended then, or there was no work.
  LockstepOutcome outcome_;
};

}  // namespace

LockstepOutcome simulate_lockstep(const LockstepOptions& options) { return Cluster(options).run(); }

}  // namespace trireme::sim
