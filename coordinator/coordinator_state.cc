#include "coordinator/coordinator_state.h"

#include <algorithm>
#include <utility>

namespace trireme::coordinator {

using wire::MemberKey;
using wire::Role;

CoordinatorState::CoordinatorState(ViewOptions options, Instant now)
    : view_(std::move(options), now) {}

void CoordinatorState::on_message(Instant now, const MemberKey& from, const Incoming& message) {
  std::visit([&](const auto& m) { on(now, from, m); }, message);
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::Hello& hello) {
  if (from != MemberKey{hello.role, hello.index, hello.incarnation}) {
    ++dropped_;
    return;
  }
  const auto reply = view_.on_hello(now, hello);
  if (const auto* refuse = std::get_if<wire::Refuse>(&reply)) {
    send(from, *refuse);
    return;
  }
  send(from, std::get<wire::Init>(reply));
  if (hello.wave_seen > wave_.wave) step_wave(WaveComplete{WaveId{hello.wave_seen.value - 1}});
  if (from.role == Role::kEngine) delivery_.on_joined(from);
  if (from.role == Role::kApiServer) board_.say_again();
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::MemberReady& ready) {
  view_.on_ready(now, from, ready);
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::KeepAlive& sign) {
  switch (view_.on_keep_alive(now, from, sign)) {
    case KeepAliveReply::kAlive:
      return send(from, wire::Ack{});
    case KeepAliveReply::kBehind:
      return send(from, view_.published());
    case KeepAliveReply::kUnknown:
      return send(from, wire::Refuse{.reason = "not in the view: say Hello", .is_final = false});
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::LoadReport& report) {
  const bool is_own = from == MemberKey{Role::kEngine, report.engine.value, report.incarnation};
  if (is_own && view_.on_heard(now, from)) {
    board_.on_report(report);
  } else {
    ++dropped_;
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::WaveReport& report) {
  const bool is_own = from == MemberKey{Role::kEngine, report.engine.value, report.incarnation};
  if (!is_own || !view_.on_heard(now, from)) {
    ++dropped_;
  } else if (report.event == wire::WaveEventKind::kComplete) {
    step_wave(WaveComplete{report.wave});
  } else if (report.wave >= wave_.wave) {
    step_wave(StaleRequest{report.wave});
  } else {
    // A rank that came back counts from an older wave, and its work must not wait: it learns the
    // current wave from the start.
    step_wave(FirstRequest{});
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::RankReport& report) {
  if (from.role == Role::kNodeAgent && view_.on_heard(now, from)) {
    view_.on_rank_report(report);
  } else {
    ++dropped_;
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::Ack& ack) {
  if (view_.on_heard(now, from)) delivery_.on_ack(from, ack.sequence);
}

void CoordinatorState::on(Instant, const MemberKey& from, const wire::Leave& leave) {
  view_.on_leave(from, leave.reason);
}

void CoordinatorState::step_wave(const WaveEvent& event) {
  const WaveStep result = step(wave_, event);
  wave_ = result.next;
  if (!wave_.running) delivery_.complete();
  for (const WaveAction& action : result.actions) {
    if (const auto* start = std::get_if<StartWave>(&action)) {
      delivery_.start(start->wave, view_.live_members(Role::kEngine));
    }
  }
}

void CoordinatorState::note_dropped(uint64_t handshakes_failed, uint64_t undecodable) {
  handshakes_failed_ = handshakes_failed;
  undecodable_ = undecodable;
}

void CoordinatorState::tick(Instant now) {
  if (const auto view = view_.tick(now)) {
    follow_engines();
    const wire::ViewChange& change = view_.last_change();
    Send news{.to = view_.live_members(), .message = change};
    if (change.base == Epoch{}) news.message = *view;
    sends_.push_back(std::move(news));
  }
  board_.note({.handshakes_failed = handshakes_failed_,
               .undecodable = undecodable_,
               .not_in_view = dropped_});
  if (const auto board = board_.tick(now, view_.published().epoch)) {
    auto front_ends = view_.live_members(Role::kApiServer);
    if (!front_ends.empty()) sends_.push_back({.to = std::move(front_ends), .message = *board});
  }
  if (auto due = delivery_.due(now); !due.empty()) {
    sends_.push_back({.to = std::move(due), .message = delivery_.message()});
  }
}

Instant CoordinatorState::wakeup() const {
  return std::min({view_.wakeup(), board_.wakeup(), delivery_.wakeup()});
}

void CoordinatorState::follow_engines() {
  const std::vector<MemberKey> live = view_.live_members(Role::kEngine);
  std::set<MemberKey> now_live(live.begin(), live.end());
  for (const MemberKey& engine : engines_) {
    if (now_live.contains(engine)) continue;
    delivery_.on_left(engine);
    board_.forget(EngineId{engine.index});
  }
  engines_ = std::move(now_live);
}

void CoordinatorState::send(const MemberKey& to, const Outgoing& message) {
  sends_.emplace_back(std::vector{to}, message);
}

std::vector<Send> CoordinatorState::take_sends() { return std::exchange(sends_, {}); }

}  // namespace trireme::coordinator
