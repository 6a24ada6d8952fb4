// MemberState: the member's half of the control channel, as a pure state machine.
//
//   joining ── Init ─▶ joined ── silent for a lease, or "I do not know you" ─▶ joining
//      │ Refuse{final}                                        leave() ─▶ left
//      └─▶ refused
//
// Joining: Hello every kHelloInterval, at once the first time. Joined: what a new coordinator must
// know (ready, load, wave, reports on ranks) is said after each Init; a KeepAlive every quarter of
// a lease. Both only while the owner is alive (tick's `is_alive`): a frozen owner goes silent.
//
// Views: only an epoch above every one seen is passed on, so the owner never goes back in time. A
// change of another view than the one held is not used: the next KeepAlive brings the whole.
// Waves: what the owner has said last of where it stands is told when it changes, with each
// KeepAlive unless it sleeps, after each Init, and in answer to each StartWave of a wave that it is
// in or past: so the coordinator need not count messages. A StartWave is passed on once,
// and again where it says to abandon more.
//
// Threads: one owner. Bounds: one view and one board waiting (the newest), the other events by
// kEventsMax (beyond it the oldest goes), one RankReport per rank. Time never goes back.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "proto/member/member_event.h"
#include "proto/membership.h"

namespace trireme::member {

using Incoming = std::variant<wire::Init, wire::Refuse, wire::View, wire::ViewChange,
                              wire::LoadBoard, wire::StartWave, wire::Ack>;
using Outgoing = std::variant<wire::Hello, wire::MemberReady, wire::KeepAlive, wire::LoadReport,
                              wire::WaveReport, wire::RankReport, wire::Ack, wire::Leave>;

class MemberState {
 public:
  static constexpr Duration kHelloInterval = std::chrono::milliseconds(500);
  static constexpr Duration kLoadInterval = std::chrono::milliseconds(50);
  static constexpr std::size_t kEventsMax = 1024;

  // epoch_seen and wave_seen of `self` are filled in here.
  MemberState(wire::Hello self, Duration lease, Instant now);

  void on_message(Instant now, const Incoming& message);
  void tick(Instant now, bool is_alive);
  [[nodiscard]] Instant wakeup() const;
  // To be sent in this order; what cannot be sent may be dropped.
  [[nodiscard]] std::vector<Outgoing> take_outgoing();
  [[nodiscard]] std::optional<Event> next_event();

  void set_ready(wire::MemberReady ready);
  void set_draining();
  void report_load(const wire::EngineStats& stats);
  // Where the owner stands: kStart and kComplete with the last wave that it was in.
  // `awaits`: see wire::WaveReport.
  void set_wave(wire::WaveEventKind standing, WaveId wave, std::vector<uint32_t> awaits = {});
  void report_rank(wire::RankReport report);
  void leave(std::string reason);

  [[nodiscard]] bool is_joined() const { return phase_ == Phase::kJoined; }
  [[nodiscard]] bool is_over() const { return phase_ == Phase::kRefused || phase_ == Phase::kLeft; }
  [[nodiscard]] const wire::View& view() const { return view_; }
  [[nodiscard]] Duration silence(Instant now) const { return now - heard_at_; }

 private:
  enum class Phase : uint8_t { kJoining, kJoined, kRefused, kLeft };

  void on(Instant now, const wire::Init& init);
  void on(Instant now, const wire::Refuse& refuse);
  void on(Instant now, const wire::View& view);
  void on(Instant now, const wire::ViewChange& change);
  void on(Instant now, const wire::LoadBoard& board);
  void on(Instant now, const wire::StartWave& start);
  void on(Instant now, const wire::Ack& ack);

  [[nodiscard]] bool is_newer(Instant now, Epoch epoch, Incarnation coordinator);
  void join_again(Instant now);
  void say_hello(Instant now);
  void say_keep_alive(Instant now);
  void say_load(Instant now);
  void say_wave();
  template <typename Replaceable>
  void put_newest(const Replaceable& event);
  void put(Event event);

  wire::Hello self_;
  Duration lease_;
  Phase phase_ = Phase::kJoining;
  Incarnation coordinator_;  // 0: none yet.
  Instant heard_at_;
  Instant hello_at_;       // Next one, while joining.
  Instant keep_alive_at_;  // Next one, while joined.
  Instant load_at_;        // Not before.
  bool is_alive_ = false;  // Since the last sign of life.

  wire::View view_;
  std::optional<wire::MemberReady> ready_;
  bool is_draining_ = false;
  std::optional<wire::LoadReport> load_;
  bool is_load_new_ = false;
  wire::WaveEventKind standing_ = wire::WaveEventKind::kComplete;
  WaveId wave_;
  std::vector<uint32_t> awaits_;
  WaveId wave_passed_on_;
  WaveId abandon_passed_on_;
  std::map<EngineId, wire::RankReport> rank_reports_;

  std::vector<Outgoing> outgoing_;
  std::deque<Event> events_;
};

}  // namespace trireme::member
