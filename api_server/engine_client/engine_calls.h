// EngineCalls: utility calls to all engines at once, and the pause that outlasts them.
//
//   ask(kIsPaused)  pause(), sleep()   a CallRound over every engine in service: engines that are
//        │              │              lost are left out, those that come meanwhile are asked too
//        │        PauseRegister        what is wanted from now on, whoever comes
//        ▼              ▼
//   on_join(rank)   is told what the register says, before any request goes there
//
// Several front ends share the register, not their rounds. Who has told an engine something, and
// finds before the answer that the register has moved on, may have been the last one that the
// engine heard: it tells all of them again what the register says now. So after two calls that
// crossed, the engines all do what the later one wanted. The round of the earlier one ends with
// kUnavailable.
//
// An engine that drains is not frozen (`keep`): it is to end. A queue that is full is tried again
// with the next tick. What nobody waits for any more (the client left) goes on all the same.
// Sans-I/O. Threads: one owner. Bounds: kRoundsMax.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <utility>

#include "api_server/engine_client/call_round.h"
#include "api_server/engine_client/pause_register.h"
#include "common/clock.h"
#include "common/status.h"

namespace trireme::api {

[[nodiscard]] const char* name_of(PauseMode mode);

class EngineCalls {
 public:
  static constexpr std::size_t kRoundsMax = 256;

  // False: not now. Never blocks.
  using Send = std::function<bool(uint32_t rank, const wire::UtilityCall& call)>;
  // Once: the answers of all, kDeadlineExceeded (who is silent), or why it cannot be done.
  using Done = std::function<void(const StatusOr<CallAnswers>& answers)>;

  explicit EngineCalls(Send send) : send_(std::move(send)) {}

  // Instead of one for itself, and before the first engine.
  void share(PauseRegister shared) { register_ = std::move(shared); }

  void ask(wire::UtilityMethod method, Instant until, Done done);
  // kServing: resume. Each engine says so when it has done it; with kAbort and kWait that is when
  // it has no request left. `now`: Unix microseconds.
  void pause(PauseMode mode, uint64_t now, Instant until, Done done) {
    change(mode, /*sleeps=*/false, now, until, std::move(done));
  }
  // As a pause, and each engine says so when its KV memory is gone too. Not kServing.
  void sleep(PauseMode mode, uint64_t now, Instant until, Done done) {
    change(mode, /*sleeps=*/true, now, until, std::move(done));
  }
  // By whichever front end asked for it.
  [[nodiscard]] PauseState wanted() const { return register_.get(); }

  void on_join(uint32_t rank, bool is_draining);
  void on_drain(uint32_t rank);
  void on_loss(uint32_t rank);
  void on_reply(uint32_t rank, const wire::UtilityReply& reply);
  void tick(Instant now);
  // Every open round ends with `status`.
  void fail_all(const Status& status);

  [[nodiscard]] std::size_t rounds_open() const { return rounds_.size(); }

 private:
  struct Open {
    wire::UtilityCall call;  // Without its id.
    Instant until;
    Done done;
    CallRound round;
    bool is_pause = false;  // Or a resume: about what the register says.
  };

  void change(PauseMode mode, bool sleeps, uint64_t now, Instant until, Done done);
  [[nodiscard]] Status check_can_ask() const;
  void open(wire::UtilityCall call, Instant until, Done done, bool is_pause);
  void follow_register() { follow(register_.get(), /*tells_all=*/false); }
  // `tells_all`: the caller does, next.
  void follow(const PauseState& state, bool tells_all);
  void ask_all(Open& open);
  void ask_again_after(uint64_t issued_at);
  // What is due, by as much as goes out now.
  void send(const wire::UtilityCall& call, CallRound& round);
  [[nodiscard]] bool may_ask(uint32_t rank, const wire::UtilityCall& call) const;
  template <typename Condition>
  void end_rounds(Condition has_ended, const Status& status);
  void end_complete_rounds();

  Send send_;
  PauseRegister register_;
  PauseState followed_;                // Of the register, as last seen.
  CallRound told_;                     // Who has been told that, outside the open rounds.
  std::map<uint32_t, bool> draining_;  // The engines in service: whether they drain.
  std::list<Open> rounds_;
  uint64_t next_id_ = 1;
};

}  // namespace trireme::api
