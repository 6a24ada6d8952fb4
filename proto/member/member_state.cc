#include "proto/member/member_state.h"

#include <algorithm>
#include <utility>

#include "proto/member/view_change.h"

namespace trireme::member {

using wire::WaveEventKind;

MemberState::MemberState(wire::Hello self, Duration lease, Instant now)
    : self_(std::move(self)),
      lease_(lease),
      heard_at_(now),
      hello_at_(now),
      keep_alive_at_(now),
      load_at_(now) {}

void MemberState::on_message(Instant now, const Incoming& message) {
  if (is_over()) return;
  heard_at_ = now;
  std::visit([&](const auto& m) { on(now, m); }, message);
}

void MemberState::on(Instant now, const wire::Init& init) {
  const bool is_new = init.coordinator != coordinator_;
  const bool was_joined = phase_ == Phase::kJoined;
  if (was_joined && !is_new) return;  // The answer to a Hello said twice.
  phase_ = Phase::kJoined;
  coordinator_ = init.coordinator;
  if (init.lease_milliseconds > 0) lease_ = std::chrono::milliseconds(init.lease_milliseconds);
  put(Accepted{.init = init, .is_new_coordinator = is_new});

  if (ready_) outgoing_.push_back(*ready_);
  say_keep_alive(now);
  if (load_) is_load_new_ = true;
  say_load(now);
  for (const auto& [engine, report] : rank_reports_) outgoing_.push_back(report);
}

void MemberState::on(Instant now, const wire::Refuse& refuse) {
  if (refuse.is_final) {
    phase_ = Phase::kRefused;
  } else if (phase_ == Phase::kJoined) {  // It does not know us any more; no news to the owner.
    join_again(now);
    return;
  }
  put(Refused{.reason = refuse.reason, .is_final = refuse.is_final});
}

bool MemberState::is_newer(Instant now, Epoch epoch, Incarnation coordinator) {
  if (epoch > view_.epoch) return true;
  // The last view of an older coordinator came after our Hello: this one must go above it.
  const bool is_overtaken =
      is_joined() && coordinator == coordinator_ && view_.coordinator != coordinator_;
  if (is_overtaken) join_again(now);
  return false;
}

void MemberState::on(Instant now, const wire::View& view) {
  if (!is_newer(now, view.epoch, view.coordinator)) return;
  view_ = view;
  put_newest(wire::View{});  // Filled in when it is taken.
}

void MemberState::on(Instant now, const wire::ViewChange& change) {
  if (!is_newer(now, change.epoch, change.coordinator)) return;
  // Of another view than ours: the next KeepAlive brings the whole one. Not asked for at once, or
  // a cluster that starts all together would ask faster than it can be answered.
  if (apply(change, view_)) put_newest(wire::View{});
}

void MemberState::on(Instant, const wire::LoadBoard& board) { put_newest(board); }

void MemberState::on(Instant, const wire::StartWave& start) {
  if (start.wave <= wave_) return say_wave();
  const bool is_more = start.wave == wave_passed_on_ && start.abandon_below > abandon_passed_on_;
  if (start.wave <= wave_passed_on_ && !is_more) return;
  wave_passed_on_ = start.wave;
  abandon_passed_on_ = start.abandon_below;
  put(start);
}

void MemberState::on(Instant, const wire::Ack&) {}

void MemberState::tick(Instant now, bool is_alive) {
  is_alive_ = is_alive_ || is_alive;
  if (phase_ == Phase::kJoined && silence(now) >= lease_) {
    put(CoordinatorSilent{.silence = silence(now)});
    join_again(now);
  }
  if (phase_ == Phase::kJoining && now >= hello_at_ && is_alive_) say_hello(now);
  if (phase_ != Phase::kJoined) return;
  if (now >= keep_alive_at_ && is_alive_) say_keep_alive(now);
  if (is_load_new_ && now >= load_at_) say_load(now);
}

Instant MemberState::wakeup() const {
  if (is_over()) return Instant::max();
  if (phase_ == Phase::kJoining) return hello_at_;
  const Instant at = std::min(keep_alive_at_, heard_at_ + lease_);
  return is_load_new_ ? std::min(at, load_at_) : at;
}

void MemberState::join_again(Instant now) {
  phase_ = Phase::kJoining;
  hello_at_ = now;
}

void MemberState::say_hello(Instant now) {
  self_.epoch_seen = view_.epoch;
  self_.wave_seen = std::max(wave_, wave_passed_on_);
  outgoing_.push_back(self_);
  hello_at_ = now + kHelloInterval;
  is_alive_ = false;
}

void MemberState::say_keep_alive(Instant now) {
  const auto state = is_draining_ ? wire::MemberState::kDraining
                     : ready_     ? wire::MemberState::kReady
                                  : wire::MemberState::kStarting;
  outgoing_.push_back(
      wire::KeepAlive{.incarnation = self_.incarnation, .state = state, .epoch_seen = view_.epoch});
  if (standing_ != WaveEventKind::kComplete) say_wave();
  keep_alive_at_ = now + lease_ / 4;
  is_alive_ = false;
}

void MemberState::say_load(Instant now) {
  if (!is_load_new_) return;
  ++load_->sequence;
  outgoing_.push_back(*load_);
  is_load_new_ = false;
  load_at_ = now + kLoadInterval;
}

void MemberState::set_ready(wire::MemberReady ready) {
  if (is_joined()) outgoing_.push_back(ready);
  ready_ = std::move(ready);
}

void MemberState::set_draining() {
  is_draining_ = true;
  keep_alive_at_ = Instant::min();
}

void MemberState::report_load(const wire::EngineStats& stats) {
  if (!load_) {
    load_ = wire::LoadReport{.engine = EngineId{self_.index}, .incarnation = self_.incarnation};
  } else if (load_->stats == stats) {
    return;
  }
  load_->stats = stats;
  is_load_new_ = true;
}

void MemberState::set_wave(WaveEventKind standing, WaveId wave, std::vector<uint32_t> awaits) {
  if (standing == standing_ && wave == wave_ && awaits == awaits_) return;
  standing_ = standing;
  wave_ = wave;
  awaits_ = std::move(awaits);
  if (is_joined()) say_wave();  // Else with the next Init.
}

void MemberState::say_wave() {
  outgoing_.push_back(wire::WaveReport{.engine = EngineId{self_.index},
                                       .incarnation = self_.incarnation,
                                       .event = standing_,
                                       .wave = wave_,
                                       .awaits = awaits_});
}

void MemberState::report_rank(wire::RankReport report) {
  if (is_joined()) outgoing_.push_back(report);
  rank_reports_[report.engine] = std::move(report);
}

void MemberState::leave(std::string reason) {
  if (is_over()) return;
  if (is_joined()) outgoing_.push_back(wire::Leave{.reason = std::move(reason)});
  phase_ = Phase::kLeft;
}

std::vector<Outgoing> MemberState::take_outgoing() { return std::exchange(outgoing_, {}); }

std::optional<Event> MemberState::next_event() {
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  if (auto* view = std::get_if<wire::View>(&event)) *view = view_;
  return event;
}

template <typename Replaceable>
void MemberState::put_newest(const Replaceable& event) {
  for (Event& waiting : events_) {
    if (std::holds_alternative<Replaceable>(waiting)) {
      waiting = event;
      return;
    }
  }
  put(event);
}

void MemberState::put(Event event) {
  if (events_.size() == kEventsMax) events_.pop_front();
  events_.push_back(std::move(event));
}

}  // namespace trireme::member
