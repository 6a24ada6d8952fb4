#include "engine_core/span/group_host.h"

#include <algorithm>
#include <utility>

#include "proto/member/config_advice.h"

namespace trireme::engine {
namespace {

std::string seat_text(const wire::GroupHello& hello) {
  return absl::StrFormat("%s on node '%s' (pid %u)",
                         rank_range_text(hello.first_rank, hello.rank_count), hello.node,
                         hello.pid);
}

bool overlap(const wire::GroupHello& a, const wire::GroupHello& b) {
  return a.first_rank < uint64_t{b.first_rank} + b.rank_count &&
         b.first_rank < uint64_t{a.first_rank} + a.rank_count;
}

}  // namespace

std::string rank_range_text(uint32_t first, uint32_t count) {
  if (count == 1) return absl::StrFormat("rank %u", first);
  return absl::StrFormat("ranks %u-%u", first, first + count - 1);
}

GroupHost::GroupHost(GroupHostConfig config) : config_(std::move(config)) {}

void GroupHost::on_message(Instant now, std::string_view peer, const FromSeat& message) {
  std::visit([&](const auto& known) { on(now, peer, known); }, message);
}

GroupHost::Seat* GroupHost::find(Incarnation incarnation) {
  const auto seat = std::ranges::find_if(
      seats_, [&](const Seat& held) { return held.hello.incarnation == incarnation; });
  return seat == seats_.end() ? nullptr : &*seat;
}

bool GroupHost::has_seat(uint32_t rank) const {
  return std::ranges::any_of(seats_, [&](const Seat& seat) {
    return rank >= seat.hello.first_rank && rank - seat.hello.first_rank < seat.hello.rank_count;
  });
}

std::string GroupHost::missing() const {
  std::string text;
  for (uint32_t rank = config_.first_rank; rank < config_.rank_end; ++rank) {
    if (has_seat(rank)) continue;
    uint32_t end = rank + 1;
    while (end < config_.rank_end && !has_seat(end)) ++end;
    text += (text.empty() ? "" : ", ") + rank_range_text(rank, end - rank);
    rank = end;
  }
  return text;
}

std::optional<std::string> GroupHost::take_refusal() { return std::exchange(refusal_, {}); }

// The configuration first: it explains ranks that do not fit.
std::optional<wire::GroupRefuse> GroupHost::refusal_of(const wire::GroupHello& hello) const {
  wire::GroupRefuse refuse{.incarnation = hello.incarnation};
  for (const wire::ConfigEntry& theirs : hello.config) {
    for (const wire::ConfigEntry& ours : config_.config) {
      if (ours.name != theirs.name || ours.value == theirs.value) continue;
      refuse.reason = absl::StrFormat(
          "configuration differs in %s: %s has '%s', the engine on node '%s' has '%s'; %s",
          ours.name, seat_text(hello), theirs.value, config_.plan.node, ours.value,
          member::config_advice(ours.name));
      return refuse;
    }
  }
  const uint64_t end = uint64_t{hello.first_rank} + hello.rank_count;
  if (hello.rank_count == 0 || hello.first_rank < config_.first_rank || end > config_.rank_end) {
    refuse.reason = absl::StrFormat(
        "%s: the engine on node '%s' expects %s from elsewhere: see --nnodes and --node-rank",
        seat_text(hello), config_.plan.node,
        rank_range_text(config_.first_rank, config_.rank_end - config_.first_rank));
    return refuse;
  }
  for (const Seat& seat : seats_) {
    if (seat.hello.incarnation == hello.incarnation || !overlap(seat.hello, hello)) continue;
    refuse.reason = seat_text(seat.hello) + " is here already";
    refuse.is_final = false;
    return refuse;
  }
  return std::nullopt;
}

void GroupHost::on(Instant now, std::string_view peer, const wire::GroupHello& hello) {
  if (phase_ == Phase::kOver) {
    return send_end(peer, config_.plan.group, hello.incarnation, std::string(why_.message()));
  }
  if (auto refuse = refusal_of(hello)) {
    if (refuse->is_final) refusal_ = refuse->reason;
    outgoing_.push_back({std::string(peer), *std::move(refuse)});
    return;
  }
  Seat* seat = find(hello.incarnation);
  if (seat == nullptr) {
    seats_.push_back({.hello = hello});
    seat = &seats_.back();
  }
  seat->peer = peer;
  seat->heard_at = now;
  if (phase_ == Phase::kFormed) return send_plan(*seat);  // It has not heard the first one.
  form_when_complete();
}

void GroupHost::form_when_complete() {
  if (!missing().empty()) return;
  phase_ = Phase::kFormed;
  for (const Seat& seat : seats_) {
    config_.plan.listeners.insert(config_.plan.listeners.end(), seat.hello.listeners.begin(),
                                  seat.hello.listeners.end());
  }
  for (const Seat& seat : seats_) send_plan(seat);
}

void GroupHost::send_plan(const Seat& seat) {
  wire::GroupPlan plan = config_.plan;
  plan.incarnation = seat.hello.incarnation;
  outgoing_.push_back({seat.peer, std::move(plan)});
}

void GroupHost::on(Instant now, std::string_view peer, const wire::GroupKeepAlive& alive) {
  Seat* const seat = find(alive.incarnation);
  const bool is_ours = alive.group == config_.plan.group && seat != nullptr;
  if (phase_ != Phase::kFormed || !is_ours) {
    return send_end(
        peer, alive.group, alive.incarnation,
        phase_ == Phase::kOver ? std::string(why_.message()) : "the engine was started anew");
  }
  seat->peer = peer;
  seat->heard_at = now;
  wire::GroupKeepAlive answer = alive;
  answer.is_serving = is_serving_;
  answer.late_step = late_step_;
  outgoing_.push_back({std::string(peer), answer});
}

void GroupHost::on(Instant, std::string_view, const wire::GroupEnd& message) {
  const Seat* const seat = find(message.incarnation);
  if (seat == nullptr || phase_ == Phase::kOver) return;
  if (phase_ == Phase::kFormed) {
    return end(error(StatusCode::kUnavailable, "%s: %s", seat_text(seat->hello), message.reason));
  }
  seats_.erase(seats_.begin() + (seat - seats_.data()));
}

void GroupHost::tick(Instant now) {
  if (phase_ == Phase::kOver) return;
  const auto is_silent = [&](const Seat& seat) { return now - seat.heard_at >= config_.lease; };
  if (phase_ == Phase::kGathering) {
    std::erase_if(seats_, is_silent);
    return;
  }
  const auto silent = std::ranges::find_if(seats_, is_silent);
  if (silent == seats_.end()) return;
  end(error(StatusCode::kUnavailable, "%s: nothing heard for %.3g s", seat_text(silent->hello),
            std::chrono::duration<double>(config_.lease).count()));
}

Instant GroupHost::wakeup() const {
  if (phase_ == Phase::kOver) return Instant::max();
  Instant first = Instant::max();
  for (const Seat& seat : seats_) first = std::min(first, seat.heard_at + config_.lease);
  return first;
}

void GroupHost::end(const Status& why) {
  if (phase_ == Phase::kOver) return;
  phase_ = Phase::kOver;
  why_ = why;
  for (const Seat& seat : seats_) {
    send_end(seat.peer, config_.plan.group, seat.hello.incarnation, std::string(why.message()));
  }
}

void GroupHost::send_end(std::string_view peer, Incarnation group, Incarnation seat,
                         const std::string& reason) {
  outgoing_.push_back(
      {std::string(peer), wire::GroupEnd{.group = group,
                                         .incarnation = seat,
                                         .reason = reason,
                                         .was_asked_for = why_.code() == StatusCode::kCancelled}});
}

std::vector<GroupHost::Letter> GroupHost::take_outgoing() { return std::exchange(outgoing_, {}); }

}  // namespace trireme::engine
