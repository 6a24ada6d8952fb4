// How the workers of one engine that are on several nodes find one another: the engine's process
// (the host, at --master-addr:--master-port) and a process on every other node (or for every other
// rank) that starts workers there (a seat).
//
//   seat                host
//   GroupHello  ─────▶              its ranks, configuration, where they listen
//               ◀─────  GroupPlan   all seats are taken: start your workers (or GroupRefuse)
//   GroupKeepAlive ⇄                while the group lives
//   GroupEnd    ⇄                   one has left or died: the group is over for all
//
// A group is one life of the engine: its incarnation names it. Hello and Plan are repeated until
// they are answered.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/kind.h"
#include "proto/membership.h"

namespace trireme::wire {

// Where worker `to` takes what worker `from` of another node sends it.
struct RankListener {
  uint32_t from = 0;
  uint32_t to = 0;
  std::string endpoint;

  static auto fields(auto& m) { return std::tie(m.from, m.to, m.endpoint); }
  friend bool operator==(const RankListener&, const RankListener&) = default;
};

struct GroupHello {
  static constexpr MessageKind kKind = MessageKind::kGroupHello;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  uint32_t first_rank = 0;  // The seat's workers are first_rank, first_rank + 1, ...
  uint32_t rank_count = 0;
  Incarnation incarnation;  // Of the seat: new for each group it asks to be in.
  std::string node;         // Host name, for people.
  uint32_t pid = 0;
  std::vector<ConfigEntry> config;
  std::vector<RankListener> listeners;  // Of its ranks.

  static auto fields(auto& m) {
    return std::tie(m.first_rank, m.rank_count, m.incarnation, m.node, m.pid, m.config,
                    m.listeners);
  }
  friend bool operator==(const GroupHello&, const GroupHello&) = default;
};

struct GroupPlan {
  static constexpr MessageKind kKind = MessageKind::kGroupPlan;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  Incarnation group;
  Incarnation incarnation;       // Of the seat that this is for.
  std::string steps_endpoint;    // Workers take steps here, worker r as number r - first remote,
  std::string results_endpoint;  // and answer there.
  uint32_t lease_milliseconds = 0;
  std::vector<RankListener> listeners;  // Of all ranks.
  std::string node;                     // The engine's, for people.
  uint32_t pid = 0;

  static auto fields(auto& m) {
    return std::tie(m.group, m.incarnation, m.steps_endpoint, m.results_endpoint,
                    m.lease_milliseconds, m.listeners, m.node, m.pid);
  }
  friend bool operator==(const GroupPlan&, const GroupPlan&) = default;
};

struct GroupRefuse {
  static constexpr MessageKind kKind = MessageKind::kGroupRefuse;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  Incarnation incarnation;  // Of the seat that is refused.
  std::string reason;       // For the user, both values side by side where two differ.
  bool is_final = true;     // False: ask again (an older life still holds the ranks).

  static auto fields(auto& m) { return std::tie(m.incarnation, m.reason, m.is_final); }
  friend bool operator==(const GroupRefuse&, const GroupRefuse&) = default;
};

struct GroupKeepAlive {
  static constexpr MessageKind kKind = MessageKind::kGroupKeepAlive;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  Incarnation group;
  Incarnation incarnation;  // Of the seat, in both directions.
  bool is_serving = false;  // Host: the workers are loaded and the engine serves.
  StepId late_step;  // Host: the engine waits for it, longer than usual; 0: none. Since version 2.

  static auto fields(auto& m) {
    return std::tie(m.group, m.incarnation, m.is_serving, m.late_step);
  }
  friend bool operator==(const GroupKeepAlive&, const GroupKeepAlive&) = default;
};

struct GroupEnd {
  static constexpr MessageKind kKind = MessageKind::kGroupEnd;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  Incarnation group;        // 0 from a seat that is in none yet.
  Incarnation incarnation;  // Of the seat, in both directions.
  std::string reason;
  bool was_asked_for = false;  // A stop, not a failure.

  static auto fields(auto& m) {
    return std::tie(m.group, m.incarnation, m.reason, m.was_asked_for);
  }
  friend bool operator==(const GroupEnd&, const GroupEnd&) = default;
};

}  // namespace trireme::wire
