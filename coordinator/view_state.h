// ViewState: who is in the cluster. The coordinator is the single writer of the view; this class is
// that writer, without sockets.
//
// A place is (role, index): rank 2, api-server 0, node agent 1. It holds one incarnation at a time:
//
//   (nobody) ── Hello ─▶ starting ── MemberReady ─▶ ready ── KeepAlive{draining} ─▶ draining
//                            └──────────────┴───────────────┴─ silent for a lease, Leave, or the
//                                                               node agent saw it die ─▶ lost
//   lost ── Hello, of the same or another incarnation ─▶ starting
//
// Who was left out is lost, and its Hello is refused (not finally) until its time is over.
//
// Every published change is a new epoch; changes within `publish_interval` share one. A coordinator
// that learns from a Hello that it has a predecessor (epoch_seen above its own) goes above that
// epoch and publishes nothing for a lease after its start: by then all who live have said Hello,
// and nobody sees a view from which half the cluster is missing.
//
// Refused: an index out of range, a rank whose other incarnation still holds its lease (final when
// that one was heard a lease after the rival had come: two nodes have the same rank),
// and a configuration that differs, each with both values. The first of two equals wins for
// engines; an api-server or node agent gives way to its successor of the same launch (their parent
// saw the first one die). Total: messages of those who are not in the view change nothing. Threads:
// one owner. Bounds: kMembersMax places. Time never goes back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "proto/member/member_key.h"
#include "proto/membership.h"

namespace trireme::coordinator {

struct ViewOptions {
  uint32_t engine_count = 1;
  Duration lease = std::chrono::seconds(3);
  Duration publish_interval = std::chrono::milliseconds(20);
  std::vector<wire::ConfigEntry> config;  // The coordinator's own command line.
  Incarnation self;
};

enum class KeepAliveReply : uint8_t { kAlive, kBehind, kUnknown };

class ViewState {
 public:
  static constexpr std::size_t kMembersMax = 8192;
  static constexpr uint32_t kApiServersMax = 65536;   // 64 of each of 1,024 nodes.
  static constexpr std::size_t kTextBytesMax = 1024;  // Of a reason, node name or value.

  ViewState(ViewOptions options, Instant now);

  [[nodiscard]] std::variant<wire::Init, wire::Refuse> on_hello(Instant now,
                                                                const wire::Hello& hello);
  void on_ready(Instant now, const wire::MemberKey& from, wire::MemberReady ready);
  // kBehind: the member has not seen the published view yet, and was not answered so for half a
  // lease: a slow one is not buried in views. kUnknown: it must say Hello.
  [[nodiscard]] KeepAliveReply on_keep_alive(Instant now, const wire::MemberKey& from,
                                             const wire::KeepAlive& sign);
  // Any other message: a sign of life as well. False: not a live member, drop the message.
  bool on_heard(Instant now, const wire::MemberKey& from);
  void on_leave(const wire::MemberKey& from, const std::string& reason);
  void on_rank_report(const wire::RankReport& report);
  // Lost, and its place stays empty until then, whoever asks for it.
  void leave_out(const wire::MemberKey& key, const std::string& reason, Instant until);

  // Ends leases. A view when one is to be published now, to every live member. A caller that was
  // away itself (frozen) gives everybody the missed time, so take in what waits, then call this.
  [[nodiscard]] std::optional<wire::View> tick(Instant now);
  [[nodiscard]] Instant wakeup() const;

  // From the view before to the published one; its base is 0 where there is none before.
  [[nodiscard]] const wire::ViewChange& last_change() const { return change_; }
  // The view as published last; epoch 0 before.
  [[nodiscard]] const wire::View& published() const { return published_; }
  [[nodiscard]] bool is_live(const wire::MemberKey& key) const;
  // Those of a role that are starting, ready or draining.
  [[nodiscard]] std::vector<wire::MemberKey> live_members(wire::Role role) const;
  [[nodiscard]] std::vector<wire::MemberKey> live_members() const;

 private:
  using PlaceId = std::pair<wire::Role, uint32_t>;
  struct Place {
    wire::Member member;
    Instant heard_at{};
    Instant view_due_at{};  // Not before: the next whole view for who lags.
    uint32_t lives = 0;
    Instant out_until{};
    std::string out_for;
    Incarnation rival;  // Who asked last for the place that this one holds, and since when.
    Instant rival_since{};
    [[nodiscard]] bool is_live() const { return member.state != wire::MemberState::kLost; }
  };

  [[nodiscard]] std::optional<wire::Refuse> refusal(Instant now, const wire::Hello& hello);
  [[nodiscard]] std::optional<wire::Refuse> config_refusal(const wire::Hello& hello) const;
  [[nodiscard]] Place* find_live(const wire::MemberKey& key);
  void take_place(Instant now, const wire::Hello& hello);
  void lose(Place& place, std::string reason);
  void forget_config_of_no_engine();
  void end_leases(Instant now);
  [[nodiscard]] bool is_publish_due(Instant now) const;

  ViewOptions options_;
  std::map<std::string, std::string> own_config_;
  std::map<std::string, std::string> engine_config_;  // Beyond ours: as the first engine has it.
  std::map<PlaceId, Place> places_;
  wire::View published_;
  wire::ViewChange change_;
  Epoch epoch_floor_;  // The next view is above this one.
  Instant started_at_;
  Instant ticked_at_;
  Instant next_lease_end_ = Instant::max();  // At or before the first end of a lease.
  std::optional<Instant> published_at_;
  bool has_predecessor_ = false;
  bool is_changed_ = false;
};

}  // namespace trireme::coordinator
