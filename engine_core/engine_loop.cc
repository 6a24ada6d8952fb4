#include "engine_core/engine_loop.h"

#include <sys/prctl.h>

#include <algorithm>

#include "common/check.h"
#include "common/log.h"
#include "engine_core/stall_log.h"

namespace trireme::engine {
namespace {

constexpr int kEventsPerTurnMax = 1024;
// Looking for a signal is a system call; a busy loop does it this often.
constexpr Duration kSignalInterval = std::chrono::milliseconds(5);
// How old the figures of the shared-memory queues may be while the engine is busy; and when it is
// idle, until its workers have taken everything and every front end knows.
constexpr Duration kShmInterval = std::chrono::milliseconds(100);

constexpr Duration kExpertsInterval = std::chrono::seconds(1);

bool has_waiting(const std::optional<wire::ShmStats>& stats) {
  return stats && stats->steps.chunks_waiting + stats->results.chunks_waiting > 0;
}

static_assert(static_cast<int>(PauseMode::kWait) == static_cast<int>(wire::HeldPause::kWait) &&
              static_cast<int>(PauseMode::kKeep) == static_cast<int>(wire::HeldPause::kKeep) &&
              static_cast<int>(PauseMode::kAbort) == static_cast<int>(wire::HeldPause::kAbort));

bool is_same_but_for_time(wire::Stall a, const wire::Stall& b) {
  a.milliseconds = b.milliseconds;
  return a == b;
}

int64_t in_seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

}  // namespace

EngineLoop::EngineLoop(const EngineLoopConfig& config, Scheduler& scheduler, Executor& executor,
                       EngineChannel& channel, std::unique_ptr<LockstepGroup> group)
    : config_(config),
      scheduler_(scheduler),
      executor_(executor),
      channel_(channel),
      publisher_(config.engine, config.incarnation, channel),
      group_(std::move(group)) {}

Status EngineLoop::run(StopSignal& stop) {
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // The default lets a timed wait oversleep by 50 us.
  const auto watched = executor_.watch_fds();
  watched_.assign(watched.begin(), watched.end());
  watched_.push_back(stop.fd());
  if (group_ != nullptr) watched_.push_back(group_->fd());
  while (!is_over_) {
    const Instant turn = now();
    config_.pulse.beat();
    heed(stop, turn);
    if (do_work(turn) == 0 && !is_over_) sleep();
  }
  return why_;
}

void EngineLoop::heed(StopSignal& stop, Instant now) {
  if (now < look_at_signals_) return;
  look_at_signals_ = now + kSignalInterval;
  const StopSignal::Level level = stop.update();
  if (level >= StopSignal::Level::kDrain) begin_drain(now);
  if (level == StopSignal::Level::kForce) end(absl::OkStatus());
}

void EngineLoop::sleep() {
  if (group_ != nullptr && group_->spin()) return;
  Instant until =
      std::min({publisher_.due_at(), executor_.next_result_at(), drain_until_, step_look_at_,
                answer_look_at_, shm_again_at_, config_.pulse.due_at(now())});
  if (group_ != nullptr) {
    until = std::min({until, group_->look_at(), record_look_at_});
    group_->about_to_wait();
  }
  channel_.main_bell.wait(Deadline(until), watched_, [this] {
    return !channel_.input.is_empty() || executor_.has_result() ||
           (memory_ == Memory::kLeaving && executor_.is_memory_released()) ||
           (has_asked_experts_ && executor_.has_expert_tables()) ||
           (group_ != nullptr && group_->has_news());
  });
  if (group_ != nullptr) group_->woke_up();
  look_at_signals_ = Instant{};
}

int EngineLoop::do_work(Instant now) {
  channel_.main_turns.fetch_add(1, std::memory_order_relaxed);
  if (channel_.beat_wanted.exchange(false)) channel_.io_bell.ring();
  int work = drain_input(now);
  work += collect(now);
  work += make_steps(now);
  work += look_for_the_end(now);
  if (work > 0 || now >= std::min(publisher_.due_at(), shm_again_at_)) publish(now);
  return work;
}

void EngineLoop::publish(Instant now) {
  const bool is_idle = !scheduler_.has_requests();
  if (is_idle || now >= shm_due_at_) {
    const std::optional<wire::ShmStats> shm = executor_.shm_stats();
    publisher_.tell_shm(shm, /*at_once=*/now >= shm_again_at_);
    shm_due_at_ = now + kShmInterval;
    is_shm_taken_ = !has_waiting(shm);
  }
  publisher_.publish(stats(), is_idle, now);
  if (!is_idle || now >= shm_again_at_) shm_again_at_ = Instant::max();
  const bool is_told = is_shm_taken_ && !publisher_.owes_shm();
  if (is_idle && !is_told) shm_again_at_ = std::min(shm_again_at_, now + kShmInterval);
}

wire::EngineStats EngineLoop::stats() const {
  wire::EngineStats stats = scheduler_.stats();
  if (group_ != nullptr) stats.wave = group_->lockstep().wave();
  stats.expert_rows = expert_load_.rows;
  stats.expert_moves = expert_load_.moves;
  stats.expert_balancedness = expert_load_.balancedness;
  stats.stall = stall_.empty() && group_ != nullptr ? group_->stall() : stall_;
  stats.standing = standing();
  return stats;
}

wire::EngineStanding EngineLoop::standing() const {
  wire::EngineStanding standing{.pause = static_cast<wire::HeldPause>(pause_.mode),
                                .stall = stall_facts_};
  if (group_ == nullptr) return standing;
  const bool sleeps = group_->lockstep().phase() == Lockstep::Phase::kAsleep;
  standing.stepping = sleeps ? wire::Stepping::kAsleep : wire::Stepping::kInWave;
  if (!stall_facts_) standing.stall = group_->stall_facts();
  return standing;
}

int EngineLoop::drain_input(Instant now) {
  int count = 0;
  while (count < kEventsPerTurnMax) {
    auto event = channel_.input.pop();
    if (!event) break;
    ++count;
    std::visit([&](auto& known) { on(known, now); }, *event);
  }
  if (count > 0 && channel_.input_is_blocked.exchange(false)) channel_.io_bell.ring();
  return count;
}

void EngineLoop::on(FrontEndJoined& event, Instant) { publisher_.on_joined(event); }

void EngineLoop::on(FrontEndLeft& event, Instant) {
  scheduler_.abort_front_end(event.front_end);
  publisher_.on_left(event.front_end);
}

void EngineLoop::on(RequestAdded& event, Instant now) {
  publisher_.on_request(event.front_end);
  if (is_draining_) return refuse(event, "The engine is draining.");
  const PauseWish& pause = latest_pause();
  if (pause.mode == PauseMode::kWait || pause.mode == PauseMode::kAbort) {
    return refuse(event, is_sleep(pause) ? "The engine is asleep." : "The engine is paused.");
  }
  const RequestKey key = event.request.key;
  if (!scheduler_.add(event.front_end, std::move(event.request), now, publisher_.outputs())) {
    log::warning("request_key_in_use", {{"key", key.value}});
  }
}

void EngineLoop::refuse(const RequestAdded& event, const char* why) {
  wire::EngineOutput& output = publisher_.outputs().add(event.front_end, event.request.key);
  output.finish_reason = wire::FinishReason::kError;
  output.error = why;
  output.error_code = static_cast<uint8_t>(StatusCode::kUnavailable);
}

void EngineLoop::on(RequestsAborted& event, Instant) {
  for (const RequestKey key : event.keys) scheduler_.abort(event.front_end, key);
}

void EngineLoop::on(MembershipRefused& event, Instant) {
  end(error(StatusCode::kFailedPrecondition, "%s", event.reason));
}

void EngineLoop::on(UtilityCalled& event, Instant now) {
  const uint64_t id = event.call.call_id;
  switch (event.call.method) {
    case wire::UtilityMethod::kResetPrefixCache:
      if (scheduler_.reset_prefix_cache()) return reply(event.front_end, id, true, "true");
      return reply(event.front_end, id, false,
                   "requests hold KV blocks: pause with mode abort or wait first");
    case wire::UtilityMethod::kSleep:
      sleep_ = std::max(sleep_.value_or(0), event.call.issued_at);
      return pause(event);
    case wire::UtilityMethod::kPause:
      return pause(event);
    case wire::UtilityMethod::kResume:
      return wish_pause(event, PauseMode::kNone);
    case wire::UtilityMethod::kIsPaused:
      return reply(event.front_end, id, true,
                   latest_pause().mode == PauseMode::kNone ? "false" : "true");
    case wire::UtilityMethod::kCheckMemory:
      return check_memory(event);
    case wire::UtilityMethod::kExpertTables:
      return tell_experts(event, now);
  }
  reply(event.front_end, id, false, "unknown method");
}

void EngineLoop::on(WaveStarted& event, Instant) {
  if (group_ != nullptr) group_->on_start(event.start, event.node_names);
}

void EngineLoop::on(StepHeard& event, Instant) {
  if (group_ != nullptr) group_->hear(event.message);
}

void EngineLoop::pause(const UtilityCalled& event) {
  const std::string& how = event.call.argument;
  if (how != "abort" && how != "wait" && how != "keep") {
    return reply(event.front_end, event.call.call_id, false,
                 "pause needs one of abort, wait, keep");
  }
  wish_pause(event, how == "keep"   ? PauseMode::kKeep
                    : how == "wait" ? PauseMode::kWait
                                    : PauseMode::kAbort);
}

void EngineLoop::wish_pause(const UtilityCalled& event, PauseMode mode) {
  const PauseWish wish{.sequence = event.call.issued_at, .mode = mode};
  if (const PauseWish& latest = latest_pause();
      group_ != nullptr && wish < latest && wish.mode != latest.mode) {
    return publisher_.reply(event.front_end, {.call_id = event.call.call_id,
                                              .engine = config_.engine,
                                              .result = "a call of another front end overrules it",
                                              .overruled_by = latest.sequence});
  }
  pause_calls_.push_back({event.front_end, event.call.call_id, wish});
  if (group_ != nullptr) {
    group_->wish_pause(wish);
  } else {
    hold_pause(wish);
  }
}

void EngineLoop::hold_pause(const PauseWish& pause) {
  pause_ = pause;
  const bool keeps = pause.mode == PauseMode::kKeep && !is_draining_;
  scheduler_.set_pause(keeps ? Pause::kAll : Pause::kNone);
  if (pause.mode == PauseMode::kAbort) scheduler_.abort_all(publisher_.outputs());
}

// A pause or a resume after the sleep brings it back by itself, as it is written.
int EngineLoop::let_memory_go() {
  if (!is_sleep(pause_) || is_draining_ || is_over_) {
    memory_ = Memory::kHeld;
    return 0;
  }
  if (memory_ == Memory::kLeaving && executor_.is_memory_released()) {
    memory_ = Memory::kGone;
    log::info("engine_asleep", {{"engine", config_.engine.value}});
    return 1;
  }
  const bool keeps = pause_.mode == PauseMode::kKeep;
  // What was kept is to run to its end after all: it writes memory again.
  if (memory_ == Memory::kGone && !keeps && scheduler_.has_requests()) memory_ = Memory::kHeld;
  const bool is_still = scheduler_.steps_in_flight() == 0 && (keeps || !scheduler_.has_requests());
  if (memory_ != Memory::kHeld || !is_still) return 0;
  scheduler_.preempt_all();
  TRIREME_CHECK(scheduler_.reset_prefix_cache(), "nobody holds a block");
  memory_ = Memory::kLeaving;
  if (const Status status = executor_.release_memory(); !status.ok()) end(status);
  return 1;
}

void EngineLoop::check_memory(const UtilityCalled& event) {
  const Status status = memory_ == Memory::kHeld ? absl::OkStatus() : executor_.check_memory();
  const std::string why(status.message());
  reply(event.front_end, event.call.call_id, status.ok(), status.ok() ? "true" : why.c_str());
}

// When they hold, or a later one does, and all that is to end has ended.
int EngineLoop::answer_pauses() {
  const bool ends = pause_.mode == PauseMode::kWait || pause_.mode == PauseMode::kAbort;
  if (ends && scheduler_.has_requests()) return 0;
  if (is_sleep(pause_) && memory_ != Memory::kGone && !is_draining_) return 0;
  return static_cast<int>(std::erase_if(pause_calls_, [this](const PauseCall& call) {
    if (group_ != nullptr && call.wish.sequence > pause_.sequence) return false;
    const bool holds = group_ == nullptr || call.wish.mode == pause_.mode;
    reply(call.front_end, call.call_id, holds,
          holds ? "true" : "another pause or resume came before this one was done");
    return true;
  }));
}

// However often it is asked, the workers are not more than once in kExpertsInterval.
void EngineLoop::tell_experts(const UtilityCalled& event, Instant now) {
  expert_calls_.emplace_back(event.front_end, event.call.call_id);
  const bool is_fresh = !expert_tables_.empty() && now - experts_told_at_ < kExpertsInterval;
  if (has_asked_experts_ || is_fresh) return;
  has_asked_experts_ = true;
  experts_told_at_ = now;
  if (const Status status = executor_.ask_expert_tables(); !status.ok()) end(status);
}

int EngineLoop::answer_expert_calls() {
  if (has_asked_experts_) {
    auto tables = executor_.take_expert_tables();
    if (!tables) return 0;
    has_asked_experts_ = false;
    expert_tables_ = *std::move(tables);
  }
  for (const auto& [front_end, call_id] : expert_calls_) {
    publisher_.reply(front_end, {call_id, config_.engine, true, "", expert_tables_});
  }
  return static_cast<int>(std::exchange(expert_calls_, {}).size());
}

void EngineLoop::reply(FrontEndId front_end, uint64_t call_id, bool ok, const char* result) {
  publisher_.reply(front_end, {call_id, config_.engine, ok, result});
}

bool EngineLoop::take_result(Instant now) {
  const auto collected = executor_.try_collect(result_, now);
  if (collected.ok()) {
    if (*collected && result_.expert_load) expert_load_ = *result_.expert_load;
    return *collected;
  }
  const Status health = executor_.health();
  end(health.ok() ? collected.status() : health);
  return false;
}

int EngineLoop::collect(Instant now) {
  if (group_ != nullptr) return collect_group_step(now);
  int count = 0;
  while (!is_over_ && scheduler_.steps_in_flight() > 0) {
    if (!take_result(now)) break;
    ++count;
    if (scheduler_.steps_in_flight() > 1) {
      step_begins(now);
    } else {
      step_ends();
    }
    hand_result_to_scheduler(now);
  }
  look_at_workers(count > 0, now);
  return count;
}

void EngineLoop::hand_result_to_scheduler(Instant now) {
  const Status status = scheduler_.on_result(result_, now, publisher_.outputs());
  if (!status.ok()) end(status);
}

void EngineLoop::look_at_workers(bool has_result, Instant now) {
  if (!has_result && !is_over_) {
    if (const Status status = executor_.health(); !status.ok()) end(status);
  }
  if (now >= step_look_at_ && !is_over_) watch_step(now);
}

void EngineLoop::step_begins(Instant now) {
  step_ends();
  step_began_ = now;
  step_look_at_ = now + WorkerWatch::kInterval;
  step_warning_at_ = now + config_.step_warning;
}

void EngineLoop::step_ends() {
  step_began_ = step_look_at_ = step_warning_at_ = Instant::max();
  stall_.clear();
  stall_facts_.reset();
}

// Its workers live, or health() had said so: they compute, or wait for each other, or are stopped.
void EngineLoop::watch_step(Instant now) {
  const StepId step = group_step_ == GroupStep::kDummy
                          ? own_step_.next()
                          : StepId{stats().step.value - (scheduler_.steps_in_flight() - 1)};
  const LateStep late = executor_.watch_step(step, now);
  step_look_at_ = now + WorkerWatch::kInterval;
  if (group_ != nullptr) group_->note_awaited(late.awaits);
  if (end_if_stuck(step, late, now)) return;
  const Duration taken = now - step_began_;
  wire::Stall facts = stall_of(late, step, taken);
  const bool stands_still = late.behind && late.motionless >= WorkerWatch::kMotionlessWarning;
  if (stands_still && !stall_facts_) step_warning_at_ = std::min(step_warning_at_, now);
  const bool is_news = stall_facts_ && !is_same_but_for_time(facts, *stall_facts_);
  if (now < step_warning_at_ && !is_news) return;
  if (now >= step_warning_at_) {
    log_late_step(facts, late.text);
    step_warning_at_ = step_began_ + 2 * taken;
  }
  stall_ = absl::StrFormat("step %u for %.1f s: %s", step.value,
                           std::chrono::duration<double>(taken).count(), late.text);
  stall_facts_ = std::move(facts);
  publisher_.tell_shm(executor_.shm_stats(), /*at_once=*/true);
  publisher_.publish(stats(), false, now);
}

void EngineLoop::log_late_step(const wire::Stall& stall, const std::string& text) const {
  StallLine line{.event = "step_slow", .wave = joined_, .stall = stall, .text = text};
  if (group_ != nullptr) line.node_of = [this](uint32_t rank) { return group_->node_of(rank); };
  log_stall(line);
}

// Ranks that step together count the steps of their wave.
wire::Stall EngineLoop::stall_of(const LateStep& late, StepId step, Duration taken) const {
  wire::Stall stall = late.facts;
  stall.milliseconds =
      static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(taken).count());
  stall.step = group_ != nullptr ? group_->lockstep().step() : step.value;
  if (group_ != nullptr) stall.epoch = group_->lockstep().start().epoch;
  return stall;
}

// No step is in flight to be late, but whoever called waits, and the next step would.
int EngineLoop::look_while_answers_are_awaited(Instant now) {
  const bool is_step_watched = step_look_at_ != Instant::max() || record_look_at_ != Instant::max();
  if (is_over_ || is_step_watched || !executor_.owes_answers()) {
    const bool was_awaited = std::exchange(answer_look_at_, Instant::max()) != Instant::max();
    if (!was_awaited || is_step_watched) return 0;
    executor_.end_watch();
    step_ends();
    return 1;
  }
  if (answer_look_at_ == Instant::max()) answer_look_at_ = now + WorkerWatch::kInterval;
  if (now < answer_look_at_) return 0;
  answer_look_at_ = now + WorkerWatch::kInterval;
  const LateStep late = executor_.watch_call(now);
  if (!late.behind || end_if_stuck(WorkerWatch::kNoStep, late, now)) return 1;
  if (late.motionless >= WorkerWatch::kMotionlessWarning) tell_of_worker_behind(late, now);
  return 0;
}

// Though no step is in flight. The log has it once.
void EngineLoop::tell_of_worker_behind(const LateStep& late, Instant now) {
  const bool is_told = stall_facts_.has_value();
  stall_ = late.text;
  stall_facts_ = stall_of(late, scheduler_.stats().step, late.still);
  if (is_told) return;
  log_late_step(*stall_facts_, stall_);
  publisher_.publish(stats(), false, now);
}

bool EngineLoop::end_if_stuck(StepId step, const LateStep& late, Instant now) {
  const Duration taken = now - step_began_;
  if (late.behind) {
    const Duration motionless_max =
        WorkerWatch::motionless_max(late.is_loading, config_.worker_timeout);
    const bool is_stuck = late.motionless >= motionless_max || late.still >= config_.step_timeout;
    if (!is_stuck) return false;
    const std::string stacks = executor_.keep_stacks(*late.behind);
    executor_.kill_worker(*late.behind);
    end(error(StatusCode::kUnavailable, "worker killed, as it made no progress: %s%s%s", late.text,
              stacks.empty() ? "" : "; its stacks: ", stacks));
    return true;
  }
  if (taken < config_.step_timeout) return false;
  end(error(StatusCode::kDeadlineExceeded, "step %u has not ended for %d s: %s", step.value,
            in_seconds(taken), late.text));
  return true;
}

int EngineLoop::make_steps(Instant now) {
  if (group_ != nullptr) return make_group_step(now);
  int count = 0;
  while (!is_over_ && !publisher_.is_blocked() &&
         scheduler_.steps_in_flight() < executor_.steps_in_flight_max()) {
    const wire::StepInput* step = scheduler_.schedule(now);
    if (step == nullptr) break;
    ++count;
    if (step_began_ == Instant::max()) step_begins(now);
    if (const Status status = executor_.submit(*step, now); !status.ok()) end(status);
  }
  return count;
}

void EngineLoop::begin_drain(Instant now) {
  if (is_draining_) return;
  is_draining_ = true;
  drain_until_ = now + config_.drain_timeout;
  if (pause_.mode == PauseMode::kKeep) scheduler_.set_pause(Pause::kNone);
  channel_.is_draining.store(true);
  channel_.io_bell.ring();
  log::info("engine_draining", {{"requests", scheduler_.request_count()}});
}

int EngineLoop::look_for_the_end(Instant now) {
  const int looked = look_while_answers_are_awaited(now);
  const int released = let_memory_go();
  const int answered = answer_pauses() + answer_expert_calls();
  if (is_draining_ && is_free_to_go(now)) end(absl::OkStatus());
  return looked + released + answered;
}

bool EngineLoop::is_free_to_go(Instant now) {
  if (now >= drain_until_) return true;
  const bool is_idle = !scheduler_.has_requests();
  return group_ != nullptr ? group_->is_free_to_go(is_idle, now) : is_idle;
}

void EngineLoop::end(const Status& why) {
  if (is_over_) return;
  is_over_ = true;
  why_ = why;
  const Status told =
      why.ok() ? error(StatusCode::kUnavailable, "The engine was stopped before the request ended.")
               : error(StatusCode::kUnavailable, "The engine failed before the request ended.");
  scheduler_.fail_all(told, publisher_.outputs());
  publisher_.publish(stats(), true, now());
}

}  // namespace trireme::engine
