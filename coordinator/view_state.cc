#include "coordinator/view_state.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "proto/member/config_advice.h"
#include "proto/member/view_change.h"

namespace trireme::coordinator {
namespace {

using wire::MemberState;
using wire::Role;

constexpr char kLeft[] = "left: ";

const char* name_of(Role role) {
  switch (role) {
    case Role::kEngine:
      return "rank";
    case Role::kApiServer:
      return "api-server";
    case Role::kNodeAgent:
      return "node agent";
  }
  return "member";
}

std::string bounded(std::string text) {
  if (text.size() > ViewState::kTextBytesMax) text.resize(ViewState::kTextBytesMax);
  return text;
}

wire::Refuse refuse(std::string reason, bool is_final = true) {
  return {.reason = bounded(std::move(reason)), .is_final = is_final};
}

wire::Member new_member(const wire::Hello& hello) {
  return {.role = hello.role,
          .index = hello.index,
          .incarnation = hello.incarnation,
          .state = MemberState::kStarting,
          .node = bounded(hello.node),
          .pid = hello.pid,
          .launch = hello.launch};
}

}  // namespace

ViewState::ViewState(ViewOptions options, Instant now)
    : options_(std::move(options)), started_at_(now), ticked_at_(now) {
  for (const wire::ConfigEntry& entry : options_.config) own_config_[entry.name] = entry.value;
  published_.coordinator = options_.self;
}

std::variant<wire::Init, wire::Refuse> ViewState::on_hello(Instant now, const wire::Hello& hello) {
  if (auto no = refusal(now, hello)) return *std::move(no);
  if (hello.epoch_seen > std::max(published_.epoch, epoch_floor_)) {
    has_predecessor_ = true;
    epoch_floor_ = hello.epoch_seen;
    is_changed_ = true;  // What this member holds is newer than what we published.
  }
  take_place(now, hello);
  const auto lease_ms = std::chrono::duration_cast<std::chrono::milliseconds>(options_.lease);
  return wire::Init{.epoch = published_.epoch,
                    .coordinator = options_.self,
                    .lease_milliseconds = static_cast<uint32_t>(lease_ms.count()),
                    .engine_count = options_.engine_count};
}

std::optional<wire::Refuse> ViewState::refusal(Instant now, const wire::Hello& hello) {
  if (hello.role == Role::kEngine && hello.index >= options_.engine_count) {
    return refuse(
        absl::StrFormat("rank %u does not exist: --data-parallel-size is %u (ranks 0 to %u)",
                        hello.index, options_.engine_count, options_.engine_count - 1));
  }
  if (hello.role == Role::kApiServer && hello.index >= kApiServersMax) {
    return refuse(
        absl::StrFormat("api-server %u: at most %u are supported", hello.index, kApiServersMax));
  }
  if (auto differs = config_refusal(hello)) return differs;
  const auto found = places_.find({hello.role, hello.index});
  if (found == places_.end()) {
    if (places_.size() < kMembersMax) return std::nullopt;
    return refuse(absl::StrFormat("the cluster has its maximum of %u members", kMembersMax), false);
  }
  Place& place = found->second;
  if (now < place.out_until) return refuse(place.out_for, /*is_final=*/false);
  if (!place.is_live() || place.member.incarnation == hello.incarnation) return std::nullopt;
  const bool is_successor = hello.role != Role::kEngine && hello.launch == place.member.launch;
  if (is_successor) return std::nullopt;
  if (place.rival != hello.incarnation) {
    place.rival = hello.incarnation;
    place.rival_since = now;
  }
  const std::string reason = absl::StrFormat(
      "%s %u is held by process %u on node '%s', which is alive; this is process %u on node '%s'",
      name_of(hello.role), hello.index, place.member.pid, place.member.node, hello.pid, hello.node);
  if (place.heard_at - place.rival_since < options_.lease) return refuse(reason, false);
  return refuse(reason + "; give each node ranks of its own by --data-parallel-start-rank");
}

std::optional<wire::Refuse> ViewState::config_refusal(const wire::Hello& hello) const {
  const auto differs = [&](const wire::ConfigEntry& entry, const std::string& ours,
                           const char* whose) {
    return refuse(absl::StrFormat(
        "configuration differs in --%s: %s %u on node '%s' has '%s', %s has '%s'; %s", entry.name,
        name_of(hello.role), hello.index, hello.node, entry.value, whose, ours,
        member::config_advice(entry.name)));
  };
  for (const wire::ConfigEntry& entry : hello.config) {
    const auto own = own_config_.find(entry.name);
    if (own != own_config_.end() && own->second != entry.value) {
      return differs(entry, own->second, "the coordinator");
    }
    if (hello.role != Role::kEngine) continue;
    const auto engine = engine_config_.find(entry.name);
    if (engine != engine_config_.end() && engine->second != entry.value) {
      return differs(entry, engine->second, "the rank that came first");
    }
  }
  return std::nullopt;
}

void ViewState::take_place(Instant now, const wire::Hello& hello) {
  Place& place = places_[{hello.role, hello.index}];
  place.heard_at = now;
  place.view_due_at = now;
  next_lease_end_ = std::min(next_lease_end_, now + options_.lease);
  if (hello.role == Role::kEngine) {
    for (const wire::ConfigEntry& entry : hello.config) {
      engine_config_.emplace(bounded(entry.name), bounded(entry.value));
    }
  }
  const bool is_same_life = place.lives > 0 && place.member.incarnation == hello.incarnation;
  if (is_same_life && place.is_live()) {  // It only did not hear us: it stays what it is.
    // But it may hold a predecessor's view of this number.
    is_changed_ = is_changed_ || (has_predecessor_ && hello.epoch_seen == published_.epoch);
    return;
  }
  wire::Member member = new_member(hello);
  if (!is_same_life) ++place.lives;
  member.restarts = std::max(place.member.restarts, place.lives - 1);
  member.reason = place.member.reason;
  place.member = std::move(member);
  is_changed_ = true;
}

void ViewState::on_ready(Instant now, const wire::MemberKey& from, wire::MemberReady ready) {
  Place* const place = find_live(from);
  if (place == nullptr) return;
  place->heard_at = now;
  wire::Member& member = place->member;
  if (member.state != MemberState::kStarting && member.ready == ready) return;
  member.ready = std::move(ready);
  if (member.state == MemberState::kStarting) member.state = MemberState::kReady;
  is_changed_ = true;
}

KeepAliveReply ViewState::on_keep_alive(Instant now, const wire::MemberKey& from,
                                        const wire::KeepAlive& sign) {
  Place* const place = find_live(from);
  if (place == nullptr) return KeepAliveReply::kUnknown;
  place->heard_at = now;
  // It says that it is ready, but its MemberReady was lost on the way: a Hello brings another.
  if (sign.state == MemberState::kReady && place->member.state == MemberState::kStarting) {
    return KeepAliveReply::kUnknown;
  }
  if (sign.state == MemberState::kDraining && place->member.state != MemberState::kDraining) {
    place->member.state = MemberState::kDraining;
    is_changed_ = true;
  }
  if (sign.epoch_seen >= published_.epoch || now < place->view_due_at) {
    return KeepAliveReply::kAlive;
  }
  place->view_due_at = now + options_.lease / 2;
  return KeepAliveReply::kBehind;
}

bool ViewState::on_heard(Instant now, const wire::MemberKey& from) {
  Place* const place = find_live(from);
  if (place != nullptr) place->heard_at = now;
  return place != nullptr;
}

void ViewState::on_leave(const wire::MemberKey& from, const std::string& reason) {
  if (Place* const place = find_live(from)) lose(*place, kLeft + reason);
}

void ViewState::on_rank_report(const wire::RankReport& report) {
  const auto found = places_.find({Role::kEngine, report.engine.value});
  if (found == places_.end()) return;
  Place& place = found->second;
  const bool is_current = place.member.incarnation == report.incarnation;
  if (is_current && place.is_live()) lose(place, report.reason);
  wire::Member& member = place.member;
  const uint32_t restarts = std::max(member.restarts, report.restarts);
  // A rank that could still say why it left knows better than its exit code.
  const bool has_said_why = is_current && member.reason.starts_with(kLeft);
  const std::string reason = has_said_why ? member.reason : bounded(report.reason);
  if (member.restarts == restarts && member.reason == reason) return;
  member.restarts = restarts;
  member.reason = reason;
  is_changed_ = true;
}

void ViewState::leave_out(const wire::MemberKey& key, const std::string& reason, Instant until) {
  Place* const place = find_live(key);
  if (place == nullptr) return;
  place->out_until = until;
  place->out_for = reason;
  lose(*place, reason);
}

std::optional<wire::View> ViewState::tick(Instant now) {
  const Duration away = now - ticked_at_;
  if (away > options_.lease / 2) {
    for (auto& [id, place] : places_) {
      place.heard_at = std::min(now, place.heard_at + away);
      place.rival_since = std::min(now, place.rival_since + away);
    }
  }
  ticked_at_ = now;
  if (now >= next_lease_end_) end_leases(now);
  if (!is_publish_due(now)) return std::nullopt;

  const wire::View before = std::exchange(published_, {});
  published_.coordinator = before.coordinator;
  published_.epoch = std::max(before.epoch, epoch_floor_).next();
  TRIREME_CHECK(published_.epoch > before.epoch, "an epoch only grows");
  for (const auto& [id, place] : places_) published_.members.push_back(place.member);
  change_ = member::change_between(before, published_);
  published_at_ = now;
  is_changed_ = false;
  return published_;
}

void ViewState::end_leases(Instant now) {
  next_lease_end_ = Instant::max();
  for (auto& [id, place] : places_) {
    if (!place.is_live()) continue;
    const Instant end = place.heard_at + options_.lease;
    if (now < end) {
      next_lease_end_ = std::min(next_lease_end_, end);
      continue;
    }
    const auto silent =
        std::chrono::duration_cast<std::chrono::milliseconds>(now - place.heard_at).count();
    lose(place, absl::StrFormat("silent for %d ms", silent));
  }
}

bool ViewState::is_publish_due(Instant now) const {
  if (!is_changed_) return false;
  if (has_predecessor_ && now < started_at_ + options_.lease) return false;
  return !published_at_ || now >= *published_at_ + options_.publish_interval;
}

Instant ViewState::wakeup() const {
  // Never longer asleep than a quarter of a lease: see `away` in tick().
  Instant at = std::min(next_lease_end_, ticked_at_ + options_.lease / 4);
  if (is_changed_) {
    Instant publish_at = published_at_ ? *published_at_ + options_.publish_interval : ticked_at_;
    if (has_predecessor_) publish_at = std::max(publish_at, started_at_ + options_.lease);
    at = std::min(at, publish_at);
  }
  return at;
}

ViewState::Place* ViewState::find_live(const wire::MemberKey& key) {
  const auto found = places_.find({key.role, key.index});
  if (found == places_.end()) return nullptr;
  Place& place = found->second;
  return place.is_live() && place.member.incarnation == key.incarnation ? &place : nullptr;
}

bool ViewState::is_live(const wire::MemberKey& key) const {
  return const_cast<ViewState*>(this)->find_live(key) != nullptr;
}

std::vector<wire::MemberKey> ViewState::live_members(wire::Role role) const {
  std::vector<wire::MemberKey> keys;
  for (const wire::MemberKey& key : live_members()) {
    if (key.role == role) keys.push_back(key);
  }
  return keys;
}

std::vector<wire::MemberKey> ViewState::live_members() const {
  std::vector<wire::MemberKey> keys;
  for (const auto& [id, place] : places_) {
    if (place.is_live()) keys.push_back({id.first, id.second, place.member.incarnation});
  }
  return keys;
}

void ViewState::lose(Place& place, std::string reason) {
  place.member.state = MemberState::kLost;
  place.member.reason = bounded(std::move(reason));
  is_changed_ = true;
  forget_config_of_no_engine();
}

void ViewState::forget_config_of_no_engine() {
  for (const auto& [id, place] : places_) {
    if (id.first == Role::kEngine && place.is_live()) return;
  }
  engine_config_.clear();
}

}  // namespace trireme::coordinator
