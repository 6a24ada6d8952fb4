// WaveDelivery: a StartWave reaches every engine of the group, whatever the links lose. Pure.
//
//   start(wave) ─▶ numbered; sent to every live engine; repeated every kRepeat until acked
//   an engine that joins while the wave runs gets it too; one that leaves is no longer waited for
//   complete()  ─▶ nothing is repeated any more: every rank has left the wave
//
// A new start replaces the one before: waves only grow, and an engine that gets wave 6 needs not
// hear of wave 5.
// Threads: one owner. Bound: one message per engine on the way.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/id.h"
#include "proto/member/member_key.h"
#include "proto/membership.h"

namespace trireme::coordinator {

class WaveDelivery {
 public:
  static constexpr Duration kRepeat = std::chrono::milliseconds(200);

  void start(WaveId wave, const std::vector<wire::MemberKey>& engines);
  void complete();
  void on_joined(const wire::MemberKey& engine);
  void on_left(const wire::MemberKey& engine);
  void on_ack(const wire::MemberKey& engine, uint64_t sequence);

  // To whom `message()` is to be sent now.
  [[nodiscard]] std::vector<wire::MemberKey> due(Instant now);
  [[nodiscard]] const wire::StartWave& message() const { return message_; }
  [[nodiscard]] Instant wakeup() const;
  [[nodiscard]] std::size_t unacked() const { return send_at_.size(); }

 private:
  wire::StartWave message_;  // sequence 0: none yet.
  bool is_running_ = false;
  std::map<wire::MemberKey, Instant> send_at_;  // Those who have not acked.
};

}  // namespace trireme::coordinator
