// What a front end says of the cluster (GET /cluster; docs/top.md), read. Pure.
//
// Fields that are missing or of another type keep their defaults, so that programs of neighbouring
// releases understand each other; an answer without the list of engines is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace trireme::top {

// What holds an engine's step up.
struct StallFacts {
  std::string phase;
  uint64_t step = 0;
  std::vector<uint32_t> awaits_ranks;
  uint32_t worker_pid = 0;  // 0: none of its own workers is known to be behind.
  double seconds = 0;
  std::string text;  // In the engine's own words.
};

struct WaveFacts {
  uint64_t number = 0;
  bool is_asleep = false;
};

// What an engine that is connected to the front end says of itself.
struct LoadFacts {
  std::optional<double> heard_seconds;  // Ago; nothing: never.
  uint64_t running = 0;
  uint64_t waiting = 0;
  double kv_usage = 0;  // In [0, 1].
  std::optional<double> tokens_per_second;
  std::optional<WaveFacts> wave;  // Nothing: the rank steps alone.
  std::string paused;             // "abort", "wait", "keep"; empty: it is not.
  std::optional<StallFacts> stall;
};

// A process of the view.
struct MemberFacts {
  uint32_t index = 0;
  std::string node;
  uint32_t pid = 0;   // 0: not known.
  std::string state;  // "starting", "ready", "draining", "lost", "absent".
  uint64_t restarts = 0;
  std::string reason;  // Of the last loss or restart.
};

struct EngineFacts {
  MemberFacts place;  // Its index is the rank.
  std::optional<double> state_seconds;
  bool is_served = true;          // By the front end that answered.
  std::optional<LoadFacts> load;  // Nothing: not connected to it.
};

struct ClusterFacts {
  std::string version;
  uint64_t epoch = 0;
  bool is_coordinator_heard = false;
  bool is_draining = false;          // The front end that answered.
  std::vector<EngineFacts> engines;  // By rank.
  std::vector<MemberFacts> front_ends;
  std::vector<MemberFacts> node_agents;
};

[[nodiscard]] StatusOr<ClusterFacts> read_cluster(std::string_view json);

}  // namespace trireme::top
