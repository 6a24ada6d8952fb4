// GroupHost: the engine's half of joining workers on several nodes, as a pure state machine
// (proto/worker_group.h). A group is one life of the engine.
//
//   gathering ── every rank has a seat ─▶ formed ── a seat leaves or is silent for a lease ─▶ over
//       └──────────────────────────── end() ──────────────────────────────────────────────▶ over
//
// Gathering: a seat is held by who says Hello, as long as it does; a second claimant is told to
// come again (its older life may still hold the ranks). Formed: nobody is taken in. Over: for good;
// the process ends, and a new life gathers anew. What belongs to another group is answered with a
// GroupEnd, so that its sender ends too.
//
// Refused for good: ranks that this engine does not expect, a configuration that differs (both
// values are named). Threads: one owner. Bounds: a seat per rank. Time never goes back.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "proto/worker_group.h"

namespace trireme::engine {

using FromSeat = std::variant<wire::GroupHello, wire::GroupKeepAlive, wire::GroupEnd>;
using ToSeat =
    std::variant<wire::GroupPlan, wire::GroupRefuse, wire::GroupKeepAlive, wire::GroupEnd>;

struct GroupHostConfig {
  wire::GroupPlan plan;     // With the listeners of the engine's own node.
  uint32_t first_rank = 0;  // Ranks [first_rank, rank_end) are elsewhere.
  uint32_t rank_end = 0;
  std::vector<wire::ConfigEntry> config;
  Duration lease{};
};

class GroupHost {
 public:
  struct Letter {
    std::string to;
    ToSeat message;
  };

  explicit GroupHost(GroupHostConfig config);

  // `peer` names the sender's connection, for the answer.
  void on_message(Instant now, std::string_view peer, const FromSeat& message);
  void tick(Instant now);
  [[nodiscard]] Instant wakeup() const;
  [[nodiscard]] std::vector<Letter> take_outgoing();

  void set_serving() { is_serving_ = true; }
  // For the seats to look at their workers; 0: none is.
  void set_late_step(StepId step) { late_step_ = step; }
  // Tells everybody; kCancelled: a stop, not a failure. Later calls change nothing.
  void end(const Status& why);

  [[nodiscard]] bool is_formed() const { return phase_ == Phase::kFormed; }
  // Once formed: with the listeners of all.
  [[nodiscard]] const wire::GroupPlan& plan() const { return config_.plan; }
  // Not OK once it is over.
  [[nodiscard]] const Status& why() const { return why_; }
  // Whom it waits for: "ranks 2-3"; empty when it does not.
  [[nodiscard]] std::string missing() const;
  // Of those refused since the last call: for the log.
  [[nodiscard]] std::optional<std::string> take_refusal();

 private:
  enum class Phase : uint8_t { kGathering, kFormed, kOver };
  struct Seat {
    wire::GroupHello hello;
    std::string peer;
    Instant heard_at{};
  };

  void on(Instant now, std::string_view peer, const wire::GroupHello& hello);
  void on(Instant now, std::string_view peer, const wire::GroupKeepAlive& alive);
  void on(Instant now, std::string_view peer, const wire::GroupEnd& end);
  [[nodiscard]] std::optional<wire::GroupRefuse> refusal_of(const wire::GroupHello& hello) const;
  [[nodiscard]] Seat* find(Incarnation incarnation);
  void form_when_complete();
  void send_plan(const Seat& seat);
  void send_end(std::string_view peer, Incarnation group, Incarnation seat,
                const std::string& reason);
  [[nodiscard]] bool has_seat(uint32_t rank) const;

  GroupHostConfig config_;
  Phase phase_ = Phase::kGathering;
  std::vector<Seat> seats_;
  bool is_serving_ = false;
  StepId late_step_;
  Status why_ = absl::OkStatus();
  std::optional<std::string> refusal_;
  std::vector<Letter> outgoing_;
};

// "rank 2", "ranks 2-3"
[[nodiscard]] std::string rank_range_text(uint32_t first, uint32_t count);

}  // namespace trireme::engine
