// LockstepGroup: a rank's place in its group: the protocol (lockstep.h) with the records of the
// others (step_exchange.h), as the engine's main loop drives it.
//
//   advance(has_work) ─▶ true: submit a step now ─▶ its result ─▶ on_step_done()
//
// Nothing blocks. Who waits: about_to_wait(), a look at has_news(), sleep on fd(), woke_up().
// Who is awaited for longer than kLate is named in the log, again after twice the time: a rank's
// record, or the coordinator where there is work and no wave starts.
// Threads: one owner, the engine's main thread.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/shm/doorbell.h"
#include "engine_core/lockstep/lockstep.h"
#include "engine_core/lockstep/step_exchange.h"

namespace trireme::engine {

// What the coordinator is to know; see wire::WaveReport.
struct WaveStanding {
  wire::WaveEventKind event = wire::WaveEventKind::kComplete;
  WaveId wave;
  std::vector<uint32_t> awaits;
  friend bool operator==(const WaveStanding&, const WaveStanding&) = default;
};

class LockstepGroup {
 public:
  static constexpr Duration kLate = std::chrono::seconds(1);
  static constexpr Duration kRepeat = std::chrono::milliseconds(200);
  // Who drains and was in a wave stays for so long after it: others may still look for its last
  // record.
  static constexpr Duration kLastRecord = std::chrono::milliseconds(500);

  LockstepGroup(EngineId self, std::unique_ptr<StepExchange> exchange);
  // From another node.
  void hear(const wire::StepAgreement& message) { exchange_->hear(message); }

  // `node_names`: of its ranks; none, or empty: not known.
  void on_start(const wire::StartWave& start, const std::vector<std::string>& node_names = {});
  // Posts and agrees as far as it goes. True: run a step of the wave now; a dummy one if there is
  // nothing to do, the one that was broken off if owes_step().
  [[nodiscard]] bool advance(bool has_work, Instant now);
  void on_step_done(bool is_abandoned);
  // Whom the workers wait for in the step that runs, for a second or more.
  void note_awaited(std::vector<uint32_t> ranks) { awaits_ = std::move(ranks); }
  // While a record is awaited: a worker of this rank stands still. Then it waits for nobody: what
  // that one has said may not have arrived, so the others may wait for it. Until said otherwise, or
  // the wait is over.
  void note_own_fault(bool is_there);
  // Where the rank stands, when that has changed since last asked. `leaves`: it drains, has no
  // work, and will have none.
  [[nodiscard]] std::optional<WaveStanding> take_standing(bool has_work, bool leaves);

  // For who drains, again and again from its beginning on: may it go, with no work left?
  [[nodiscard]] bool is_free_to_go(bool is_idle, Instant now);

  [[nodiscard]] const Lockstep& lockstep() const { return lockstep_; }
  void wish_pause(const PauseWish& wish) { lockstep_.wish_pause(wish); }

  [[nodiscard]] bool has_news();
  // Looks for news for as long as that has paid lately, microseconds; before going to sleep.
  [[nodiscard]] bool spin();
  // Names who is awaited, when it is time to; true: it has.
  bool watch(Instant now);
  // Where the rank is; empty: not known.
  [[nodiscard]] std::string node_of(uint32_t rank) const;
  // Empty unless somebody is: "wave 5 step 812: no record of rank 1 for 2.0 s", "no wave has
  // started for 1.0 s: the coordinator is awaited".
  [[nodiscard]] const std::string& stall() const { return stall_; }
  // The same in fields.
  [[nodiscard]] const std::optional<wire::Stall>& stall_facts() const { return stall_facts_; }
  // When advance() and watch() have something to do though nothing came.
  [[nodiscard]] Instant look_at() const { return std::min({late_at_, repeat_at_, stays_until_}); }

  [[nodiscard]] int fd() const { return exchange_->fd(); }
  // Who awaits no record is not woken by one.
  void about_to_wait() {
    if (lockstep_.phase() == Lockstep::Phase::kAgreeing) exchange_->about_to_wait();
  }
  void woke_up() { exchange_->woke_up(); }

 private:
  [[nodiscard]] wire::WaveEventKind kind_of_standing(bool has_work, bool leaves) const;
  [[nodiscard]] std::optional<StepSummary> gather();
  [[nodiscard]] std::vector<uint32_t> missing();
  void forget_lateness();
  void await_wave(bool has_work, Instant now);
  void tell_who_is_missing(double waited);
  void tell_of_no_wave(double waited);
  void tell(wire::Stall stall, double waited);

  EngineId self_;
  std::unique_ptr<StepExchange> exchange_;
  Lockstep lockstep_;
  WaveStanding standing_;
  shm::SpinBudget spin_budget_{shm::default_spin_max()};
  Instant posted_at_{};  // Or since when a wave is wanted.
  Instant late_at_ = Instant::max();
  Instant repeat_at_ = Instant::max();
  bool has_left_wave_ = false;  // Or is in one; since it drains.
  Instant stays_until_ = Instant::max();
  WaveId entered_;
  std::string stall_;
  std::optional<wire::Stall> stall_facts_;
  std::vector<uint32_t> awaits_;
  bool has_own_fault_ = false;
  std::map<uint32_t, std::string> node_names_;  // By rank.
};

}  // namespace trireme::engine
