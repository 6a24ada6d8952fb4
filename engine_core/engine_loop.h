// EngineLoop: the main thread of a rank. A turn: take in what the I/O thread brought, take in
// results, make and submit steps while the executor has room, publish.
//
//   serving ── SIGTERM ─▶ draining ── idle, or the time is over ─▶ end
//      └───────── a worker fails, a second signal, the coordinator refuses us ─────────────────▶
//      end
//
// Draining: running requests go on, new ones end with kUnavailable; then the rank is to be out of
// its group's wave, so that its end breaks off no step of the others. At the end, however it comes,
// every request left ends with kUnavailable and the reason: its front end may take it elsewhere.
// Pause (UtilityCall): `abort` ends all, `wait` lets all end, both refuse new ones; `keep` freezes
// everything, and new requests wait.
// Sleep: a pause that, once it holds and no step is in flight, lets KV memory go; requests that are
// frozen are computed again afterwards. Any later call that is no sleep ends it.
//
// In a lockstep group (lockstep/lockstep_group.h) a step is made when the group runs one, a dummy
// where there is nothing to do, one at a time; and a pause holds from the step on that all agree
// on. While it waits for the records of others it looks at its own workers, as in a late step.
//
// A turn never blocks; between turns the thread sleeps until something comes (idle: no CPU).
// Threads: one calls everything. The scheduler and the executor belong to it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/process/pulse.h"
#include "common/signals.h"
#include "common/status.h"
#include "engine_core/engine_channel.h"
#include "engine_core/executor.h"
#include "engine_core/lockstep/lockstep_group.h"
#include "engine_core/publisher.h"
#include "engine_core/scheduler.h"
#include "engine_core/worker_watch.h"

namespace trireme::engine {

struct EngineLoopConfig {
  EngineId engine;
  Incarnation incarnation;
  Duration drain_timeout = std::chrono::seconds(30);
  // A step that takes longer is named in the log, with who is behind; again after twice the time,
  // and so on. Sooner where who is behind stands still (WorkerWatch::kMotionlessWarning).
  Duration step_warning = WorkerWatch::kWarning;
  // The worker that is behind is killed when it has neither shown progress nor used any CPU time
  // for the one, or has shown no progress for the other; the engine ends, to be started again.
  // Where nobody can be named, the other is for the step.
  Duration worker_timeout = std::chrono::seconds(60);
  Duration step_timeout = WorkerWatch::kStillMax;
  process::Pulse pulse;  // Beats with each turn, from run() on.
};

class EngineLoop {
 public:
  // `group`: null where the rank steps alone.
  EngineLoop(const EngineLoopConfig& config, Scheduler& scheduler, Executor& executor,
             EngineChannel& channel, std::unique_ptr<LockstepGroup> group = nullptr);

  // Until the end. OK when the engine was asked to stop, else the reason why it had to.
  [[nodiscard]] Status run(StopSignal& stop);

  // One turn; the amount of work done.
  int do_work(Instant now);
  void begin_drain(Instant now);
  [[nodiscard]] bool is_over() const { return is_over_; }

 private:
  struct PauseCall {
    FrontEndId front_end;
    uint64_t call_id;
    PauseWish wish;
  };

  int drain_input(Instant now);
  void on(std::monostate, Instant) {}
  void on(FrontEndJoined& event, Instant now);
  void on(FrontEndLeft& event, Instant now);
  void on(RequestAdded& event, Instant now);
  void on(RequestsAborted& event, Instant now);
  void on(UtilityCalled& event, Instant now);
  void on(MembershipRefused& event, Instant now);
  void on(WaveStarted& event, Instant now);
  void on(StepHeard& event, Instant now);
  void pause(const UtilityCalled& event);
  // Holds at once; in a group when all have agreed.
  void wish_pause(const UtilityCalled& event, PauseMode mode);
  void hold_pause(const PauseWish& pause);
  // That holds or, in a group, will: what is new is treated by it already.
  [[nodiscard]] const PauseWish& latest_pause() const {
    return group_ != nullptr ? group_->lockstep().wish() : pause_;
  }
  [[nodiscard]] bool is_sleep(const PauseWish& pause) const {
    return pause.mode != PauseMode::kNone && pause.sequence == sleep_;
  }
  int let_memory_go();
  void check_memory(const UtilityCalled& event);
  int answer_pauses();
  void tell_experts(const UtilityCalled& event, Instant now);
  int answer_expert_calls();
  void reply(FrontEndId front_end, uint64_t call_id, bool ok, const char* result);
  void refuse(const RequestAdded& event, const char* why);

  int collect(Instant now);
  // The next result into result_; false: none is there, or there never will be (the end).
  [[nodiscard]] bool take_result(Instant now);
  void hand_result_to_scheduler(Instant now);
  // The workers' health where nothing came of them, and a step that is late.
  void look_at_workers(bool has_result, Instant now);
  int make_steps(Instant now);
  // engine_loop_group.cc: the same where the rank is one of a group.
  enum class GroupStep : uint8_t { kNone, kOwn, kDummy };
  int collect_group_step(Instant now);
  int make_group_step(Instant now);
  [[nodiscard]] Status submit_group_step(Instant now);
  [[nodiscard]] Status join_wave();
  void break_off_if_lost();
  int tell_standing();
  [[nodiscard]] bool has_group_work() const;
  void look_while_records_are_awaited(Instant now);
  int look_while_answers_are_awaited(Instant now);
  void tell_of_worker_behind(const LateStep& late, Instant now);
  void step_begins(Instant now);
  void step_ends();
  void watch_step(Instant now);
  [[nodiscard]] wire::Stall stall_of(const LateStep& late, StepId step, Duration taken) const;
  void log_late_step(const wire::Stall& stall, const std::string& text) const;
  [[nodiscard]] bool end_if_stuck(StepId step, const LateStep& late, Instant now);
  int look_for_the_end(Instant now);
  [[nodiscard]] bool is_free_to_go(Instant now);
  void publish(Instant now);
  [[nodiscard]] wire::EngineStats stats() const;
  [[nodiscard]] wire::EngineStanding standing() const;
  void end(const Status& why);
  void sleep();
  void heed(StopSignal& stop, Instant now);

  EngineLoopConfig config_;
  Scheduler& scheduler_;
  Executor& executor_;
  EngineChannel& channel_;
  Publisher publisher_;
  wire::StepResult result_;
  std::unique_ptr<LockstepGroup> group_;
  GroupStep group_step_ = GroupStep::kNone;  // In flight.
  StepId own_step_;                          // The last of the scheduler's in the group.
  StepId last_step_;                         // That the workers were given in the group.
  Instant record_look_at_ = Instant::max();  // At them, while a record is awaited,
  Instant answer_look_at_ = Instant::max();  // or an answer to a call between steps.
  WaveId joined_;                            // The wave that the workers are in.
  WaveId broken_below_;                      // What they have been told to leave.
  PauseWish pause_;                          // Holds.
  std::optional<uint64_t> sleep_;            // The latest pause that is one.
  enum class Memory : uint8_t { kHeld, kLeaving, kGone };
  Memory memory_ = Memory::kHeld;                              // Of the KV cache.
  std::vector<std::pair<FrontEndId, uint64_t>> expert_calls_;  // And its call_id.
  std::vector<wire::ExpertTable> expert_tables_;               // As last told,
  Instant experts_told_at_{};                                  // and asked for.
  bool has_asked_experts_ = false;
  std::vector<PauseCall> pause_calls_;  // Answered when it holds, and all that is to end has.
  bool is_draining_ = false;
  bool is_over_ = false;
  Status why_;
  Instant drain_until_ = Instant::max();
  Instant step_began_ = Instant::max();  // The oldest in flight; max: none.
  Instant step_look_at_ = Instant::max();
  Instant step_warning_at_ = Instant::max();
  std::string stall_;  // Empty: no step is late.
  wire::ExpertLoad expert_load_;
  std::optional<wire::Stall> stall_facts_;
  Instant look_at_signals_{};
  Instant shm_due_at_{};
  Instant shm_again_at_ = Instant::max();  // Idle, and not all was taken, or not told to all.
  bool is_shm_taken_ = true;
  std::vector<int> watched_;
};

}  // namespace trireme::engine
