// What is wrong with a cluster, worst first, and in words. Pure.
//
//   culprit   others wait for it, or one of its own workers stands still
//   waits     its step is late: it waits for another, or nobody knows for whom
//   missing   lost, or never seen
//   coming    starting, or not connected to the front end that was asked
//   held      drains or is paused: somebody wants that, so it is no trouble
//   well
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/top/cluster_facts.h"

namespace trireme::top {

enum class Trouble : uint8_t { kCulprit, kWaits, kMissing, kComing, kHeld, kWell };

struct EngineDiagnosis {
  const EngineFacts* engine = nullptr;
  Trouble trouble = Trouble::kWell;
  std::string state;  // One word: "ready", "stuck", "waits", "late", "lost", ...
  std::string words;  // A sentence; empty when it is well.

  [[nodiscard]] bool is_trouble() const { return trouble < Trouble::kHeld; }
};

struct Diagnosis {
  std::vector<EngineDiagnosis> engines;  // Worst first, then by rank.
  std::vector<std::string> others;       // Sentences about the coordinator and other processes.

  [[nodiscard]] std::size_t trouble_count() const;
  [[nodiscard]] bool is_well() const { return trouble_count() == 0 && others.empty(); }
};

// `cluster` must outlive it.
[[nodiscard]] Diagnosis diagnose(const ClusterFacts& cluster);

}  // namespace trireme::top
