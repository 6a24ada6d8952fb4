#include "api_server/engine_client/engine_calls.h"

#include <iterator>
#include <utility>

#include "common/log.h"

namespace trireme::api {
namespace {

constexpr const char* kModeNames[] = {"serve", "abort", "wait", "keep"};

wire::UtilityCall call_of(const PauseState& state) {
  wire::UtilityCall call{.method = wire::UtilityMethod::kResume, .issued_at = state.issued_at};
  if (state.mode != PauseMode::kServing) {
    call.method = state.sleeps ? wire::UtilityMethod::kSleep : wire::UtilityMethod::kPause;
    call.argument = name_of(state.mode);
  }
  return call;
}

// "serve", "pause (abort)", "sleep (abort)"
std::string text_of(const PauseState& state) {
  if (state.mode == PauseMode::kServing) return name_of(state.mode);
  return absl::StrFormat("%s (%s)", state.sleeps ? "sleep" : "pause", name_of(state.mode));
}

}  // namespace

const char* name_of(PauseMode mode) { return kModeNames[static_cast<std::size_t>(mode)]; }

void EngineCalls::ask(wire::UtilityMethod method, Instant until, Done done) {
  if (const Status status = check_can_ask(); !status.ok()) return done(status);
  open({.method = method}, until, std::move(done), /*is_pause=*/false);
}

void EngineCalls::change(PauseMode mode, bool sleeps, uint64_t now, Instant until, Done done) {
  if (const Status status = check_can_ask(); !status.ok()) return done(status);
  follow(register_.set(mode, now, sleeps), /*tells_all=*/true);
  open(call_of(followed_), until, std::move(done), /*is_pause=*/true);
}

Status EngineCalls::check_can_ask() const {
  if (draining_.empty()) {
    return error(StatusCode::kUnavailable, "no engine is ready; try again later");
  }
  if (rounds_.size() < kRoundsMax) return {};
  return error(StatusCode::kResourceExhausted,
               "%u calls to the engines are waiting for their answers; try again later",
               rounds_.size());
}

void EngineCalls::open(wire::UtilityCall call, Instant until, Done done, bool is_pause) {
  Open& opened = rounds_.emplace_back(
      Open{.call = std::move(call), .until = until, .done = std::move(done), .is_pause = is_pause});
  ask_all(opened);
}

void EngineCalls::ask_all(Open& open) {
  for (const auto& [rank, is_draining] : draining_) {
    if (may_ask(rank, open.call)) open.round.add(rank);
  }
  send(open.call, open.round);
}

bool EngineCalls::may_ask(uint32_t rank, const wire::UtilityCall& call) const {
  return call.argument != name_of(PauseMode::kKeep) || !draining_.at(rank);
}

void EngineCalls::send(const wire::UtilityCall& call, CallRound& round) {
  for (const uint32_t rank : round.due()) {
    wire::UtilityCall numbered = call;
    numbered.call_id = next_id_++;
    if (send_(rank, numbered)) round.sent(rank, numbered.call_id);
  }
}

void EngineCalls::on_join(uint32_t rank, bool is_draining) {
  draining_[rank] = is_draining;
  follow_register();
  const wire::UtilityCall state = call_of(followed_);
  if (may_ask(rank, state)) told_.add(rank);
  send(state, told_);
  for (Open& open : rounds_) {
    if (!may_ask(rank, open.call)) continue;
    open.round.add(rank);
    send(open.call, open.round);
  }
}

void EngineCalls::on_drain(uint32_t rank) {
  draining_[rank] = true;
  if (!may_ask(rank, call_of(followed_))) told_.drop(rank);
  for (Open& open : rounds_) {
    if (!may_ask(rank, open.call)) open.round.drop(rank);
  }
  end_complete_rounds();
}

void EngineCalls::on_loss(uint32_t rank) {
  draining_.erase(rank);
  told_.drop(rank);
  for (Open& open : rounds_) open.round.drop(rank);
  end_complete_rounds();
}

void EngineCalls::on_reply(uint32_t rank, const wire::UtilityReply& reply) {
  follow_register();  // As long as it counts as not answered.
  if (told_.answer(rank, reply)) {
    // What it should hear from all who join may be older than what holds.
    const bool is_refusal = !reply.ok && reply.overruled_by == 0;
    if (is_refusal) log::warning("call_refused", {{"engine", rank}, {"reason", reply.result}});
    return;
  }
  for (Open& open : rounds_) {
    if (!open.round.answer(rank, reply)) continue;
    if (open.is_pause && reply.overruled_by != 0) ask_again_after(reply.overruled_by);
    break;
  }
  end_complete_rounds();
}

// Engines of several nodes' front ends step together: what holds was asked for at another, whose
// clock may be ahead of ours, or before we were asked for what we thought was so already.
void EngineCalls::ask_again_after(uint64_t issued_at) {
  followed_ = register_.outbid(issued_at);
  told_ = {};
  for (Open& open : rounds_) {
    if (!open.is_pause) continue;
    open.call = call_of(followed_);
    open.round = {};
    ask_all(open);
  }
}

void EngineCalls::tick(Instant now) {
  follow_register();
  send(call_of(followed_), told_);
  for (Open& open : rounds_) send(open.call, open.round);
  for (auto it = rounds_.begin(); it != rounds_.end();) {
    if (now < it->until) {
      ++it;
      continue;
    }
    const Status late =
        error(StatusCode::kDeadlineExceeded, "%s in time; try again", it->round.who_is_silent());
    const Done done = std::move(it->done);
    rounds_.erase(it);
    done(late);
    it = rounds_.begin();  // What `done` did to the list is not known.
  }
}

void EngineCalls::fail_all(const Status& status) {
  end_rounds([](const Open&) { return true; }, status);
}

// What another front end wants since; or we, by a newer call.
void EngineCalls::follow(const PauseState& state, bool tells_all) {
  if (state == followed_) return;
  followed_ = state;
  bool may_be_last = !tells_all && told_.is_waiting();
  for (const Open& open : rounds_) {
    may_be_last |= !tells_all && open.is_pause && open.round.is_waiting();
  }
  told_ = {};
  for (const auto& [rank, is_draining] : draining_) {
    if (may_be_last && may_ask(rank, call_of(state))) told_.add(rank);
  }
  send(call_of(state), told_);
  end_rounds(
      [](const Open& open) { return open.is_pause; },
      error(StatusCode::kUnavailable,
            "another call came before this one was done, and the engines now %s", text_of(state)));
}

template <typename Condition>
void EngineCalls::end_rounds(Condition has_ended, const Status& status) {
  std::list<Open> ended;
  for (auto it = rounds_.begin(); it != rounds_.end();) {
    const auto next = std::next(it);
    if (has_ended(*it)) ended.splice(ended.end(), rounds_, it);
    it = next;
  }
  // A caller may ask again at once.
  for (const Open& open : ended) {
    if (status.ok()) {
      open.done(open.round.answers());
    } else {
      open.done(status);
    }
  }
}

void EngineCalls::end_complete_rounds() {
  end_rounds([](const Open& open) { return open.round.is_complete(); }, {});
}

}  // namespace trireme::api
