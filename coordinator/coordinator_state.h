// CoordinatorState: the whole coordinator without sockets: view, load board and waves behind one
// door. Messages and time go in, messages come out; the loop, the simulator and the transcripts of
// tests/golden/coordinator drive the same object.
//
//   Hello        → Init or Refuse            LoadReport → LoadBoard to the api-servers
//   KeepAlive    → Ack, the View if it lags, Refuse{not final} if it must say Hello
//   WaveReport   → StartWave to every rank of a wave, repeated until it says that it is in
//                  who cannot hear another rank of its wave is left out for a while (cut_judge.h)
//   any change   → ViewChange to every live member (the first: View)
//
// What comes from somebody who is not in the view, or names another sender than the one it came
// from, changes nothing and is counted.
// Threads: one owner. Bounds: those of its parts. Time never goes back.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/cut_judge.h"
#include "coordinator/load_board.h"
#include "coordinator/view_state.h"
#include "coordinator/wave_delivery.h"
#include "coordinator/wave_state.h"

namespace trireme::coordinator {

using Incoming = std::variant<wire::Hello, wire::MemberReady, wire::KeepAlive, wire::LoadReport,
                              wire::WaveReport, wire::RankReport, wire::Ack, wire::Leave>;
using Outgoing = std::variant<wire::Init, wire::Refuse, wire::View, wire::ViewChange,
                              wire::LoadBoard, wire::StartWave, wire::Ack>;

struct Send {
  std::vector<wire::MemberKey> to;
  Outgoing message;
};

class CoordinatorState {
 public:
  // `first_wave_above`: wave_base() of this life.
  CoordinatorState(ViewOptions options, Instant now, WaveId first_wave_above = {});

  void on_message(Instant now, const wire::MemberKey& from, const Incoming& message);
  // What the loop dropped before it got here; what was dropped here is counted here.
  void note_dropped(uint64_t handshakes_failed, uint64_t undecodable);
  void tick(Instant now);
  [[nodiscard]] Instant wakeup() const;
  [[nodiscard]] std::vector<Send> take_sends();
  // For the log: whom it has left out, and why.
  [[nodiscard]] std::vector<std::string> take_news();

  [[nodiscard]] const ViewState& view() const { return view_; }
  [[nodiscard]] const WaveState& waves() const { return waves_; }
  [[nodiscard]] uint64_t dropped() const { return dropped_; }

 private:
  void on(Instant now, const wire::MemberKey& from, const wire::Hello& hello);
  void on(Instant now, const wire::MemberKey& from, const wire::MemberReady& ready);
  void on(Instant now, const wire::MemberKey& from, const wire::KeepAlive& sign);
  void on(Instant now, const wire::MemberKey& from, const wire::LoadReport& report);
  void on(Instant now, const wire::MemberKey& from, const wire::WaveReport& report);
  void on(Instant now, const wire::MemberKey& from, const wire::RankReport& report);
  void on(Instant now, const wire::MemberKey& from, const wire::Ack& ack);
  void on(Instant now, const wire::MemberKey& from, const wire::Leave& leave);

  void note_waits(Instant now, const wire::WaveReport& report);
  [[nodiscard]] bool is_needed_to_the_end() const;
  void step_wave(const WaveEvent& event);
  [[nodiscard]] std::set<EngineId> untold() const;
  void follow_engines();
  void follow_ready_ranks();
  void deliver_waves(Instant now);
  void leave_out_who_is_cut_off(Instant now);
  [[nodiscard]] std::map<EngineId, const wire::Member*> published_engines() const;
  void tell_nodes(wire::StartWave& start) const;
  void send(const wire::MemberKey& to, const Outgoing& message);

  ViewState view_;
  LoadBoard board_;
  WaveState waves_;
  WaveDelivery delivery_;
  CutJudge cuts_;
  std::set<wire::MemberKey> engines_;                // As of the last view.
  std::map<EngineId, wire::MemberKey> ready_ranks_;  // Likewise, those that can be in waves.
  std::vector<Send> sends_;
  std::vector<std::string> news_;
  uint64_t handshakes_failed_ = 0;
  uint64_t undecodable_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace trireme::coordinator
