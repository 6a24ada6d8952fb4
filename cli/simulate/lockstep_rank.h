// LockstepRank: one rank of a simulated lockstep cluster: the product's state machines, and what
// stands for its scheduler and its workers.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "engine_core/lockstep/lockstep.h"
#include "engine_core/lockstep/record_table.h"
#include "proto/member/member_key.h"
#include "proto/member/member_state.h"

namespace trireme::sim {

struct LockstepRank {
  LockstepRank(wire::Hello hello, Duration lease, Instant now, uint32_t rank_count)
      : key{hello.role, hello.index, hello.incarnation},
        member(std::move(hello), lease, now),
        records(rank_count) {}

  // What one rank says to another: its record, or that it has come to a step's collective.
  struct Arrival {
    uint32_t rank = 0;
    WaveId wave;
    uint64_t step = 0;
    friend auto operator<=>(const Arrival&, const Arrival&) = default;
  };
  struct Said {
    uint32_t rank = 0;
    std::variant<engine::StepRecord, Arrival> what;
  };

  wire::MemberKey key;
  member::MemberState member;
  engine::Lockstep lockstep;
  engine::RecordTable records;
  std::set<Arrival> arrivals;
  std::deque<engine::StepRecord> own_records;  // The last two: said again and again.
  std::deque<Arrival> own_arrivals;

  int work = 0;  // Steps until its requests end.
  bool is_dummy = false;
  bool is_computing = false;  // All have come to the collective; the rest of the step takes time.
  uint64_t computation = 0;   // The one that is waited for.
  uint64_t waits_since = 0;   // For the others' records, or for them to come to the collective.

  bool is_alive = true;
  bool is_frozen = false;
  bool is_cut_off = false;
  int64_t clock_skew = 0;  // Milliseconds.
  std::vector<member::Incoming> inbox;
  std::vector<Said> heard;

  [[nodiscard]] uint32_t rank() const { return key.index; }
  [[nodiscard]] bool can_compute() const {
    return work > 0 && lockstep.pause().mode != engine::PauseMode::kKeep;
  }
};

}  // namespace trireme::sim
