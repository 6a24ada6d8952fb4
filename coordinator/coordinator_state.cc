#include "coordinator/coordinator_state.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace trireme::coordinator {

using wire::MemberKey;
using wire::Role;

namespace {

// Numbered in the order of ranks. Those of one launch are on one node; one that stands alone is a
// node of its own.
CutJudge::Nodes nodes_of(const std::set<EngineId>& ranks,
                         const std::map<EngineId, const wire::Member*>& engines) {
  CutJudge::Nodes nodes;
  std::map<LaunchId, uint32_t> known;
  uint32_t count = 0;
  for (const EngineId rank : ranks) {
    const LaunchId launch = engines.at(rank)->launch;
    const auto found = launch == LaunchId{} ? known.end() : known.find(launch);
    const uint32_t node = found != known.end() ? found->second : count++;
    if (launch != LaunchId{}) known[launch] = node;
    nodes[rank] = node;
  }
  return nodes;
}

}  // namespace

// A rank that waits says so with each sign of life, every quarter of a lease.
CoordinatorState::CoordinatorState(ViewOptions options, Instant now, WaveId first_wave_above)
    : view_(options, now),
      waves_(first_wave_above),
      cuts_(std::max(CutJudge::kPatience, options.lease / 2)) {}

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
  // It says whom it waits for after this, or it no longer does, which it may have had no way to
  // say.
  if (from.role == Role::kEngine) cuts_.forget(EngineId{from.index});
  if (hello.wave_seen > WaveId{}) step_wave(WavesWere{});
  if (hello.wave_seen > waves_.wave()) step_wave(WaveComplete{hello.wave_seen});
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
    return;
  }
  note_waits(now, report);
  switch (report.event) {
    case wire::WaveEventKind::kStart:
      return step_wave(WorkWaits{report.engine, report.wave});
    case wire::WaveEventKind::kComplete:
      return step_wave(WaveComplete{report.wave});
    case wire::WaveEventKind::kRunning:
      return step_wave(InWave{report.engine, report.wave});
    case wire::WaveEventKind::kLeaving:
      if (is_needed_to_the_end()) return step_wave(InWave{report.engine, report.wave});
      return step_wave(RankLeaves{report.engine, report.wave});
  }
}

// Where all are to go nobody is let out of a wave before its end: those with work need the others'
// experts until then.
bool CoordinatorState::is_needed_to_the_end() const {
  const auto stays = [](const wire::Member& member) {
    return member.role == Role::kEngine && member.state == wire::MemberState::kReady;
  };
  return std::ranges::none_of(view_.published().members, stays);
}

void CoordinatorState::note_waits(Instant now, const wire::WaveReport& report) {
  const bool is_in = report.event == wire::WaveEventKind::kRunning ||
                     report.event == wire::WaveEventKind::kLeaving;
  if (!is_in) {
    cuts_.on_end(now, report.engine, report.wave);
  } else if (report.wave < waves_.abandon_below()) {
    cuts_.forget(report.engine);  // It waits for ranks that have left that wave, and is to leave.
  } else {
    cuts_.on_report(now, report.engine, report.wave, report.awaits);
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::RankReport& report) {
  if (from.role == Role::kNodeAgent && view_.on_heard(now, from)) {
    view_.on_rank_report(report);
  } else {
    ++dropped_;
  }
}

void CoordinatorState::on(Instant now, const MemberKey& from, const wire::Ack&) {
  (void)view_.on_heard(now, from);
}

void CoordinatorState::on(Instant, const MemberKey& from, const wire::Leave& leave) {
  view_.on_leave(from, leave.reason);
}

void CoordinatorState::step_wave(const WaveEvent& event) {
  const WaveId abandoned = waves_.abandon_below();
  if (!waves_.on(event)) return;
  if (waves_.abandon_below() != abandoned) cuts_.forget_all();
  delivery_.begin();
}

std::set<EngineId> CoordinatorState::untold() const {
  std::set<EngineId> ranks = waves_.outside();
  for (const EngineId rank : waves_.leavers()) {
    if (ready_ranks_.contains(rank)) ranks.insert(rank);
  }
  return ranks;
}

void CoordinatorState::note_dropped(uint64_t handshakes_failed, uint64_t undecodable) {
  handshakes_failed_ = handshakes_failed;
  undecodable_ = undecodable;
}

void CoordinatorState::tick(Instant now) {
  leave_out_who_is_cut_off(now);
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
  deliver_waves(now);
}

void CoordinatorState::deliver_waves(Instant now) {
  const std::vector<EngineId> due = waves_.leavers().empty() ? delivery_.due(now, waves_.outside())
                                                             : delivery_.due(now, untold());
  if (due.empty()) return;
  Send send{.message = wire::StartWave{.wave = waves_.wave(),
                                       .sequence = waves_.wave().value,
                                       .epoch = view_.published().epoch,
                                       .abandon_below = waves_.abandon_below()}};
  auto& start = std::get<wire::StartWave>(send.message);
  for (const EngineId rank : waves_.ranks()) start.ranks.push_back(rank.value);
  tell_nodes(start);
  for (const EngineId rank : due) send.to.push_back(ready_ranks_.at(rank));
  sends_.push_back(std::move(send));
}

void CoordinatorState::tell_nodes(wire::StartWave& start) const {
  const auto engines = published_engines();
  const CutJudge::Nodes nodes = nodes_of(waves_.ranks(), engines);
  const bool is_one_node = std::ranges::all_of(nodes, [](const auto& n) { return n.second == 0; });
  if (is_one_node) return;
  for (const auto& [rank, node] : nodes) {
    start.nodes.push_back(node);
    start.addresses.push_back(engines.at(rank)->ready.addresses);
  }
}

std::map<EngineId, const wire::Member*> CoordinatorState::published_engines() const {
  std::map<EngineId, const wire::Member*> engines;
  for (const wire::Member& member : view_.published().members) {
    if (member.role == Role::kEngine) engines[EngineId{member.index}] = &member;
  }
  return engines;
}

void CoordinatorState::leave_out_who_is_cut_off(Instant now) {
  if (now < cuts_.wakeup()) return;
  std::set<EngineId> ranks;
  for (const auto& [rank, key] : ready_ranks_) ranks.insert(rank);
  const auto engines = published_engines();
  for (const CutJudge::Verdict& verdict : cuts_.judge(now, nodes_of(ranks, engines))) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(verdict.length).count();
    const std::string reason = absl::StrFormat(
        "rank %u (node '%s') and rank %u (node '%s') cannot hear each other: rank %u is left out "
        "for %d s",
        verdict.out.value, engines.at(verdict.out)->node, verdict.other.value,
        engines.at(verdict.other)->node, verdict.out.value, seconds);
    view_.leave_out(ready_ranks_.at(verdict.out), reason, now + verdict.length);
    news_.push_back(reason);
  }
}

Instant CoordinatorState::wakeup() const {
  return std::min({view_.wakeup(), board_.wakeup(), delivery_.wakeup(), cuts_.wakeup()});
}

void CoordinatorState::follow_engines() {
  const std::vector<MemberKey> live = view_.live_members(Role::kEngine);
  std::set<MemberKey> now_live(live.begin(), live.end());
  for (const MemberKey& engine : engines_) {
    if (now_live.contains(engine)) continue;
    board_.forget(EngineId{engine.index});
    cuts_.forget(EngineId{engine.index});
  }
  engines_ = std::move(now_live);
  follow_ready_ranks();
}

// The first view is published when all who live have had the time to say Hello.
void CoordinatorState::follow_ready_ranks() {
  std::map<EngineId, MemberKey> ready;
  for (const wire::Member& member : view_.published().members) {
    const bool is_up =
        member.state == wire::MemberState::kReady || member.state == wire::MemberState::kDraining;
    if (member.role != Role::kEngine || !is_up) continue;
    ready[EngineId{member.index}] = {member.role, member.index, member.incarnation};
  }
  const std::map<EngineId, MemberKey> before = std::exchange(ready_ranks_, ready);
  const auto is_in = [](const auto& map, const auto& entry) {
    const auto found = map.find(entry.first);
    return found != map.end() && found->second == entry.second;
  };
  for (const auto& entry : before) {
    if (!is_in(ready, entry)) step_wave(RankLost{entry.first});
  }
  for (const auto& entry : ready) {
    if (!is_in(before, entry)) step_wave(RankReady{entry.first});
  }
  step_wave(Settled{});
}

void CoordinatorState::send(const MemberKey& to, const Outgoing& message) {
  sends_.emplace_back(std::vector{to}, message);
}

std::vector<Send> CoordinatorState::take_sends() { return std::exchange(sends_, {}); }
std::vector<std::string> CoordinatorState::take_news() { return std::exchange(news_, {}); }

}  // namespace trireme::coordinator
