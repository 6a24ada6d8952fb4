// The control channel: members (engines, api-servers, node agents) <-> coordinator.
//
//   member            coordinator
//   Hello      ─────▶              identity, configuration
//              ◀─────  Init        accepted: epoch, lease, the cluster's shape   (or Refuse and
//              why)
//   MemberReady ────▶              addresses, capacity
//              ◀─────  ViewChange  to every member, at every change; the epoch only grows
//              ◀─────  View        the whole of it, to who does not hold the one before
//   KeepAlive, LoadReport, RankReport, WaveReport ─▶        while it lives
//              ◀─────  LoadBoard, StartWave
//   Leave      ─────▶
//
// A member that hears nothing for a lease says Hello again (the coordinator may have restarted);
// the coordinator takes a member that is silent for a lease out of the view.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "common/id.h"
#include "proto/engine_outputs.h"
#include "proto/kind.h"

namespace trireme::wire {

enum class Role : uint8_t { kEngine = 1, kApiServer = 2, kNodeAgent = 3 };
enum class MemberState : uint8_t { kStarting = 1, kReady = 2, kDraining = 3, kLost = 4 };

// One line of the configuration that all members must agree on: "dtype" = "bfloat16".
struct ConfigEntry {
  std::string name;
  std::string value;

  static auto fields(auto& m) { return std::tie(m.name, m.value); }
  friend bool operator==(const ConfigEntry&, const ConfigEntry&) = default;
};

struct Hello {
  static constexpr MessageKind kKind = MessageKind::kHello;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  Role role{};
  uint32_t index = 0;  // Engine: its rank. Api-server: its number. Node agent: its node rank.
  Incarnation incarnation;
  std::string node;  // Host name, for people.
  uint32_t pid = 0;
  std::string version;  // Of the program.
  std::vector<ConfigEntry> config;
  Epoch epoch_seen;  // The highest epoch this process has seen: a restarted coordinator goes above
                     // it.
  WaveId wave_seen;
  LaunchId launch;  // Since version 2.

  static auto fields(auto& m) {
    return std::tie(m.role, m.index, m.incarnation, m.node, m.pid, m.version, m.config,
                    m.epoch_seen, m.wave_seen, m.launch);
  }
  friend bool operator==(const Hello&, const Hello&) = default;
};

struct Init {
  static constexpr MessageKind kKind = MessageKind::kInit;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  Epoch epoch;
  Incarnation coordinator;
  uint32_t lease_milliseconds = 0;
  uint32_t engine_count = 0;  // --data-parallel-size

  static auto fields(auto& m) {
    return std::tie(m.epoch, m.coordinator, m.lease_milliseconds, m.engine_count);
  }
  friend bool operator==(const Init&, const Init&) = default;
};

struct Refuse {
  static constexpr MessageKind kKind = MessageKind::kRefuse;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  std::string reason;    // For the user, both values side by side where two differ.
  bool is_final = true;  // False: try again later (the rank's older life still holds its lease).

  static auto fields(auto& m) { return std::tie(m.reason, m.is_final); }
  friend bool operator==(const Refuse&, const Refuse&) = default;
};

struct MemberReady {
  static constexpr MessageKind kKind = MessageKind::kMemberReady;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  // Api-server: its ROUTER's endpoints. Engine: none; or, where ranks that step together are on
  // several nodes, where it takes records, and then where each of its workers takes rows.
  std::vector<std::string> addresses;
  uint32_t block_count = 0;
  uint32_t block_tokens = 0;
  uint32_t model_tokens_max = 0;
  std::vector<uint32_t> worker_pids;
  std::string http_address;  // Api-server: empty until it has seen all its engines.

  static auto fields(auto& m) {
    return std::tie(m.addresses, m.block_count, m.block_tokens, m.model_tokens_max, m.worker_pids,
                    m.http_address);
  }
  friend bool operator==(const MemberReady&, const MemberReady&) = default;
};

struct Member {
  Role role{};
  uint32_t index = 0;
  Incarnation incarnation;
  MemberState state{};
  std::string node;
  uint32_t pid = 0;
  MemberReady ready;      // Empty while starting.
  uint32_t restarts = 0;  // Of this place (role, index) since the cluster started.
  std::string reason;     // Lost, or restarted: why, as far as known.
  LaunchId launch;        // Since version 2 of the view.

  static auto fields(auto& m) {
    return std::tie(m.role, m.index, m.incarnation, m.state, m.node, m.pid, m.ready, m.restarts,
                    m.reason, m.launch);
  }
  friend bool operator==(const Member&, const Member&) = default;
};

struct View {
  static constexpr MessageKind kKind = MessageKind::kView;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  Epoch epoch;
  Incarnation coordinator;
  std::vector<Member> members;

  static auto fields(auto& m) { return std::tie(m.epoch, m.coordinator, m.members); }
  friend bool operator==(const View&, const View&) = default;
};

// The view `epoch`, for who holds the view `base` of the same coordinator. Others ask for the whole
// one with a KeepAlive.
struct ViewChange {
  static constexpr MessageKind kKind = MessageKind::kViewChange;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  Epoch base;
  Epoch epoch;
  Incarnation coordinator;
  std::vector<Member> changed;  // New ones, or others than before, by (role, index).

  static auto fields(auto& m) { return std::tie(m.base, m.epoch, m.coordinator, m.changed); }
  friend bool operator==(const ViewChange&, const ViewChange&) = default;
};

// Sent by the main loop of a member, so that a frozen one goes silent.
struct KeepAlive {
  static constexpr MessageKind kKind = MessageKind::kKeepAlive;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  Incarnation incarnation;
  MemberState state = MemberState::kReady;
  Epoch epoch_seen;

  static auto fields(auto& m) { return std::tie(m.incarnation, m.state, m.epoch_seen); }
  friend bool operator==(const KeepAlive&, const KeepAlive&) = default;
};

struct LoadReport {
  static constexpr MessageKind kKind = MessageKind::kLoadReport;
  static constexpr uint8_t kVersion = 6;
  static constexpr uint8_t kCompat = 1;

  EngineId engine;
  Incarnation incarnation;
  uint64_t sequence = 0;
  EngineStats stats;

  static auto fields(auto& m) { return std::tie(m.engine, m.incarnation, m.sequence, m.stats); }
  friend bool operator==(const LoadReport&, const LoadReport&) = default;
};

// What the coordinator has dropped in this life of it, for whoever shows metrics.
struct CoordinatorStats {
  uint64_t handshakes_failed = 0;  // Peers of the control port that never got to speak to us.
  uint64_t undecodable = 0;        // Messages: not one of ours.
  uint64_t not_in_view = 0;        // Messages: from nobody in the view, or for another.

  static auto fields(auto& m) {
    return std::tie(m.handshakes_failed, m.undecodable, m.not_in_view);
  }
  friend bool operator==(const CoordinatorStats&, const CoordinatorStats&) = default;
};

struct LoadBoard {
  static constexpr MessageKind kKind = MessageKind::kLoadBoard;
  static constexpr uint8_t kVersion = 7;
  static constexpr uint8_t kCompat = 1;

  Epoch epoch;
  std::vector<LoadReport> reports;  // By rank; ranks without one are absent.
  CoordinatorStats stats;           // Since version 2.

  static auto fields(auto& m) { return std::tie(m.epoch, m.reports, m.stats); }
  friend bool operator==(const LoadBoard&, const LoadBoard&) = default;
};

enum class WaveEventKind : uint8_t {
  kStart = 1,     // It sleeps and has work; `wave`: the last one it was in.
  kComplete = 2,  // The ranks of this wave have agreed that it is over.
  kRunning = 3,   // It is in this wave. Since version 2.
  // It drains, has no work, and is to be in no later wave than this one, in which it is; or that it
  // went out with, not being one of its ranks. Since version 4.
  kLeaving = 4,
};

// Engine -> coordinator: where a rank stands. Said when it changes, in answer to each StartWave,
// and with each KeepAlive unless it sleeps.
struct WaveReport {
  static constexpr MessageKind kKind = MessageKind::kWaveReport;
  static constexpr uint8_t kVersion = 4;
  static constexpr uint8_t kCompat = 1;

  EngineId engine;
  Incarnation incarnation;
  WaveEventKind event{};
  WaveId wave;
  // Ranks of the wave for which it has been waiting in an exchange for a second or more, all its
  // own workers being well. Since version 3.
  std::vector<uint32_t> awaits;

  static auto fields(auto& m) {
    return std::tie(m.engine, m.incarnation, m.event, m.wave, m.awaits);
  }
  friend bool operator==(const WaveReport&, const WaveReport&) = default;
};

// Coordinator -> every rank of the wave, repeated until it says that it is in; and to ranks that
// leave, which are not of it and go out where the others go over to it.
struct StartWave {
  static constexpr MessageKind kKind = MessageKind::kStartWave;
  static constexpr uint8_t kVersion = 2;
  static constexpr uint8_t kCompat = 1;

  WaveId wave;
  uint64_t sequence = 0;        // The wave's number.
  Epoch epoch;                  // Of the view that it was made from. Since version 2.
  std::vector<uint32_t> ranks;  // Who steps together, ascending. Since version 2.
  // Waves before this one have lost a rank and never end: to be left at once, in the middle of a
  // step. A later one is left where all ranks agree to. Since version 2.
  WaveId abandon_below;
  // Where ranks are on several nodes: the node of each rank, numbered from 0 in the order of ranks,
  // and where each of them takes records and rows (MemberReady::addresses). Since version 2.
  std::vector<uint32_t> nodes;
  std::vector<std::vector<std::string>> addresses;

  static auto fields(auto& m) {
    return std::tie(m.wave, m.sequence, m.epoch, m.ranks, m.abandon_below, m.nodes, m.addresses);
  }
  friend bool operator==(const StartWave&, const StartWave&) = default;
};

struct Ack {
  static constexpr MessageKind kKind = MessageKind::kAck;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  uint64_t sequence = 0;

  static auto fields(auto& m) { return std::tie(m.sequence); }
  friend bool operator==(const Ack&, const Ack&) = default;
};

struct Leave {
  static constexpr MessageKind kKind = MessageKind::kLeave;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  std::string reason;

  static auto fields(auto& m) { return std::tie(m.reason); }
  friend bool operator==(const Leave&, const Leave&) = default;
};

// Node agent -> coordinator: one of its ranks died, and what happens next.
struct RankReport {
  static constexpr MessageKind kKind = MessageKind::kRankReport;
  static constexpr uint8_t kVersion = 1;
  static constexpr uint8_t kCompat = 1;

  EngineId engine;
  Incarnation incarnation;  // Of the life that ended.
  std::string reason;       // "killed by signal 9 (SIGKILL)"
  uint32_t restarts = 0;
  uint32_t restart_in_milliseconds = 0;

  static auto fields(auto& m) {
    return std::tie(m.engine, m.incarnation, m.reason, m.restarts, m.restart_in_milliseconds);
  }
  friend bool operator==(const RankReport&, const RankReport&) = default;
};

}  // namespace trireme::wire
