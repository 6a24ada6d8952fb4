#include "cli/simulate/lockstep_cluster.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "cli/simulate/lockstep_rank.h"
#include "cli/simulate/rank_loop.h"
#include "cli/simulate/world.h"
#include "common/status.h"
#include "coordinator/coordinator_state.h"

namespace trireme::sim {
namespace {

using engine::Lockstep;
using engine::PauseMode;
using engine::StepOrder;
using std::chrono::milliseconds;
using wire::MemberKey;

constexpr Duration kLease = milliseconds(1000);
constexpr uint32_t kTick = 25;  // Milliseconds between two turns of a process's loop.
constexpr uint32_t kSayAgain = 200;
constexpr uint32_t kLate = 1'000;  // Whom a rank has awaited for so long it tells.
constexpr uint32_t kFaultsEnd = 8'000;
constexpr uint32_t kCutEnd = 20'000;
constexpr uint32_t kSettleMin = 6'000;
constexpr uint32_t kSettleMax =
    34'000;  // Who was left out twice comes back, and does all its work.
constexpr uint32_t kStillMax = 5'000;
constexpr uint32_t kQuiet = 1'000;            // At the end of it nothing may happen any more.
constexpr uint32_t kCoordinator = 1'000'000;  // Link ends; ranks are 0, 1, 2, ...
constexpr uint32_t kFrontEnd = 1'000'001;

class Cluster {
 public:
  explicit Cluster(const LockstepOptions& options) : options_(options), world_(options.seed) {
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
    const bool has_faults = options_.has_faults && !options_.has_cut && !options_.has_flicker;
    for (uint32_t time = 800; has_faults && time < kFaultsEnd; time += 1 + world_.random(1'500)) {
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
  // --- The world. ---
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
  [[nodiscard]] std::string name(const LockstepRank& rank) const {
    return absl::StrFormat("rank %u#%u", rank.rank(), rank.key.incarnation.value);
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
    wire::Hello hello{
        .role = wire::Role::kEngine, .index = rank, .incarnation = Incarnation{++lives_}};
    ranks_.push_back(
        std::make_unique<LockstepRank>(std::move(hello), kLease, now(), options_.rank_count));
    LockstepRank& process = *ranks_.back();
    if (options_.has_faults) process.clock_skew = world_.random(100'000);
    const auto id = static_cast<uint32_t>(ranks_.size() - 1);
    tell("%s starts", name(process));
    world_.after(world_.random(1'000),
                 [this, id] { ranks_[id]->member.set_ready({.block_count = 1}); });
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
    for (const auto& said : std::exchange(rank.heard, {})) take(rank, said);
    step_on(id);
    flush(id);
  }

  // --- A rank's loop, as the product's is. ---
  void take(LockstepRank& rank, const member::Incoming& message) {
    rank.member.on_message(now(rank.clock_skew), message);
    while (auto event = rank.member.next_event()) {
      const auto* start = std::get_if<wire::StartWave>(&*event);
      if (start == nullptr) continue;
      tell("%s hears of wave %u", name(rank), wave_number(start->wave));
      rank.lockstep.on_start(*start);
    }
  }

  void take(LockstepRank& rank, const LockstepRank::Said& said) {
    if (const auto* record = std::get_if<engine::StepRecord>(&said.what)) {
      rank.records.put(said.rank, *record);
    } else {
      rank.arrivals.insert(std::get<LockstepRank::Arrival>(said.what));
    }
  }

  void step_on(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    sim::step_on(
        rank.lockstep, [&] { post(id); }, [&] { return agree(id); }, [&] { return compute(id); });
    tell_coordinator(rank);
  }

  void tell_coordinator(LockstepRank& rank) {
    rank.member.set_wave(standing_of(rank.lockstep, rank.can_compute()), rank.lockstep.wave(),
                         awaited_by(rank));
  }

  [[nodiscard]] std::vector<uint32_t> awaited_by(const LockstepRank& rank) const {
    const Lockstep& lockstep = rank.lockstep;
    const bool is_agreeing = lockstep.phase() == Lockstep::Phase::kAgreeing;
    const bool is_coming = lockstep.phase() == Lockstep::Phase::kRunning && !rank.is_computing;
    if ((!is_agreeing && !is_coming) || world_.now() - rank.waits_since < kLate) return {};
    std::vector<uint32_t> awaited;
    for (const uint32_t other : lockstep.ranks()) {
      const bool has_come =
          is_agreeing ? rank.records.find(other, lockstep.wave(), lockstep.step()) != nullptr
                      : rank.arrivals.contains({other, lockstep.wave(), lockstep.step()});
      if (!has_come) awaited.push_back(other);
    }
    return awaited;
  }

  void post(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    const engine::StepRecord record = rank.lockstep.post(rank.can_compute());
    rank.waits_since = world_.now();
    tell("%s posts wave %u step %u%s%s", name(rank), wave_number(record.wave), record.step,
         record.has_work ? ", has work" : "",
         record.next != WaveId{} ? absl::StrFormat(", next %u", wave_number(record.next)) : "");
    rank.records.put(rank.rank(), record);
    rank.own_records.push_back(record);
    if (rank.own_records.size() > 2) rank.own_records.pop_front();
    say(id, {rank.rank(), record});
  }

  bool agree(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    Lockstep& lockstep = rank.lockstep;
    const WaveId wave = lockstep.wave();
    const auto all = rank.records.gather(wave, lockstep.step(), lockstep.ranks());
    if (!all) return false;
    const StepOrder order = lockstep.on_agreed(*all);
    if (lockstep.pause().mode == PauseMode::kAbort) rank.work = 0;
    if (order != StepOrder::kRun) {
      tell("%s %s wave %u", name(rank), order == StepOrder::kEnd ? "ends" : "goes on from",
           wave_number(wave));
      return true;
    }
    rank.is_dummy = !rank.can_compute() && !lockstep.owes_step();
    rank.waits_since = world_.now();
    const LockstepRank::Arrival arrival{rank.rank(), wave, lockstep.step()};
    rank.arrivals.insert(arrival);
    rank.own_arrivals.push_back(arrival);
    if (rank.own_arrivals.size() > 2) rank.own_arrivals.pop_front();
    say(id, {rank.rank(), arrival});
    return true;
  }

  bool compute(uint32_t id) {
    LockstepRank& rank = *ranks_[id];
    const Lockstep& lockstep = rank.lockstep;
    if (lockstep.must_break()) {
      ++rank.computation;
      rank.is_computing = false;
      ++outcome_.abandoned_steps;
      tell("%s breaks off wave %u step %u", name(rank), wave_number(lockstep.wave()),
           lockstep.step());
      rank.lockstep.on_step_done(/*is_abandoned=*/!rank.is_dummy);
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
    rank.lockstep.on_step_done(/*is_abandoned=*/false);
    std::erase_if(rank.arrivals, [&](const LockstepRank::Arrival& arrival) {
      return arrival.wave < rank.lockstep.wave();
    });
    step_on(id);
    flush(id);
  }

  void check_step(const LockstepRank& rank) {
    ++outcome_.steps;
    moved_at_ = world_.now();
    outcome_.dummy_steps += rank.is_dummy ? 1 : 0;
    const auto step = std::pair(rank.lockstep.wave(), rank.lockstep.step());
    const auto [known, is_new] = steps_.try_emplace(step, rank.lockstep.ranks());
    if (known->second != rank.lockstep.ranks()) fail("one step of two groups");
    const auto& ranks = rank.lockstep.ranks();
    if (std::find(ranks.begin(), ranks.end(), rank.rank()) == ranks.end()) {
      fail("a rank runs a step of others");
    }
    tell("%s ends wave %u step %u%s", name(rank), wave_number(step.first), step.second,
         rank.is_dummy ? " (dummy)" : "");
  }

  // --- Links. ---
  void say(uint32_t id, const LockstepRank::Said& said) {
    for (uint32_t to = 0; to < ranks_.size(); ++to) {
      if (to == id || !ranks_[to]->is_alive || is_cut(id, to)) continue;
      world_.send(id, to, [this, id, to, said] {
        if (!ranks_[to]->is_alive || is_cut(id, to)) return;
        ranks_[to]->heard.push_back(said);
        if (!ranks_[to]->is_frozen) run_turn(to);
      });
    }
  }
  void say_again(uint32_t id) {
    const LockstepRank& rank = *ranks_[id];
    for (const auto& record : rank.own_records) say(id, {rank.rank(), record});
    for (const auto& arrival : rank.own_arrivals) say(id, {rank.rank(), arrival});
  }
  [[nodiscard]] bool is_cut(uint32_t from, uint32_t to) const {
    return ranks_[from]->is_cut_off || ranks_[to]->is_cut_off || cut_links_.contains({from, to});
  }

  void flush(uint32_t id) {
    for (const member::Outgoing& message : ranks_[id]->member.take_outgoing()) {
      if (ranks_[id]->is_cut_off) continue;
      world_.send(id, kCoordinator, [this, id, message] {
        if (!coordinator_ || ranks_[id]->is_cut_off) return;
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
      if (ranks_[id]->key != to || ranks_[id]->is_cut_off) continue;
      world_.send(kCoordinator, id, [this, id, message] {
        LockstepRank& rank = *ranks_[id];
        if (!rank.is_alive || rank.is_cut_off) return;
        std::visit([&](const auto& m) { rank.inbox.push_back(m); }, message);
        if (!rank.is_frozen) run_turn(id);
      });
    }
  }

  // --- Load and faults. ---
  [[nodiscard]] LockstepRank* pick() { return find(world_.random(options_.rank_count)); }
  void load() {
    LockstepRank* const rank = pick();
    if (rank == nullptr) return;
    const uint32_t kind = world_.random(12);
    if (kind == 0) {
      rank->work = 0;  // Its client hangs up.
    } else if (kind == 1) {
      pause_all(static_cast<PauseMode>(world_.random(4)));
    } else if (rank->lockstep.pause().mode == PauseMode::kNone ||
               rank->lockstep.pause().mode == PauseMode::kKeep) {
      rank->work += 1 + static_cast<int>(world_.random(6));
    }
  }
  // The front end asks every rank, and the calls arrive one by one.
  void pause_all(PauseMode mode) {
    tell("pause %u is asked for", static_cast<uint32_t>(mode));
    const engine::PauseWish wish{.sequence = ++pauses_, .mode = mode};
    for (uint32_t id = 0; id < ranks_.size(); ++id) {
      world_.send(kFrontEnd, id, [this, id, wish] {
        if (ranks_[id]->is_alive) ranks_[id]->lockstep.wish_pause(wish);
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
        tell("%s is killed", name(*rank));
        rank->is_alive = false;
        start_after(100 + world_.random(1'500), rank->rank());
        return;
      case 3:
      case 4:
        if (rank == nullptr) return;
        tell("%s is cut off", name(*rank));
        for_a_while(rank->is_cut_off);
        return;
      case 5:
        return cut_link();
      case 6:
        return freeze_coordinator();
      default:
        if (rank == nullptr) return;
        tell("%s is frozen", name(*rank));
        for_a_while(rank->is_frozen);
    }
  }
  // Between two ranks, in one direction; both still hear the coordinator.
  void cut_link() {
    const auto count = static_cast<uint32_t>(ranks_.size());
    const std::pair<uint32_t, uint32_t> link(world_.random(count), world_.random(count));
    tell("the link from %s to %s is cut", name(*ranks_[link.first]), name(*ranks_[link.second]));
    cut_links_.insert(link);
    world_.after(world_.random(3'000), [this, link] { cut_links_.erase(link); });
  }
  // Too short for anybody to be left out.
  void flicker() {
    world_.after(1'500 + world_.random(1'500), [this] {
      if (world_.now() >= kCutEnd || options_.rank_count < 2) return;
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
    const uint32_t one = world_.random(options_.rank_count);
    const uint32_t other = (one + 1 + world_.random(options_.rank_count - 1)) % options_.rank_count;
    const bool is_both = world_.random(2) == 0;
    tell("%s is not heard by %s%s", name(*ranks_[one]), name(*ranks_[other]),
         is_both ? ", nor does it hear it" : "");
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
  void for_a_while(bool& flag) {
    flag = true;
    world_.after(world_.random(3'000), [&flag] { flag = false; });  // Processes are never erased.
  }
  void heal() {
    tell("all faults are healed");
    thaw_coordinator();
    cut_links_.clear();
    for (const auto& rank : ranks_) rank->is_frozen = rank->is_cut_off = false;
    for (uint32_t i = 0; i < options_.rank_count; ++i) start_after(0, i);
    start_coordinator();
    pause_all(PauseMode::kNone);
  }

  // Why not all are at rest; empty: they are.
  [[nodiscard]] std::string unrest() const {
    for (uint32_t i = 0; i < options_.rank_count; ++i) {
      const LockstepRank* const rank = find(i);
      if (rank == nullptr) return absl::StrFormat("rank %u is not there", i);
      if (!rank->member.is_joined()) return name(*rank) + " is not joined";
      if (rank->lockstep.phase() != Lockstep::Phase::kAsleep) {
        return absl::StrFormat("%s waits in wave %u, step %u", name(*rank),
                               wave_number(rank->lockstep.wave()), rank->lockstep.step());
      }
      if (rank->work > 0) return absl::StrFormat("%s has work left", name(*rank));
      if (rank->lockstep.pause().mode != PauseMode::kNone) return name(*rank) + " is still paused";
    }
    return {};
  }

  LockstepOptions options_;
  World world_;
  std::optional<coordinator::CoordinatorState> coordinator_;
  std::vector<std::unique_ptr<LockstepRank>> ranks_;                      // All that ever were.
  std::vector<std::pair<uint32_t, member::Outgoing>> coordinator_inbox_;  // From whom, and what.
  bool coordinator_is_frozen_ = false;
  std::set<std::pair<uint32_t, uint32_t>> cut_links_;
  std::map<std::pair<WaveId, uint64_t>, std::vector<uint32_t>> steps_;
  uint64_t lives_ = 0;
  uint64_t pauses_ = 0;
  uint64_t moved_at_ = 0;  // A step ended then, or there was no work.
  LockstepOutcome outcome_;
};

}  // namespace

LockstepOutcome simulate_lockstep(const LockstepOptions& options) { return Cluster(options).run(); }

}  // namespace trireme::sim
