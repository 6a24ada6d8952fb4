// CutJudge: which ranks that step together cannot hear each other though the coordinator hears
// both, and who of them is left out. Pure.
//
//   a waits for b, and b for a, for kPatience ─▶ the link between their nodes is cut
//   nodes with cuts between them ─▶ the one with the most is left out, again until no cut is left
//
// A rank says whom it waits for in an exchange (WaveReport::awaits). One that computes, or whose
// worker is held up, waits for nobody; one that waits has come and said what it had to say. So two
// that wait for each other have both come, and it did not arrive. Those that both of them hear are
// ahead, and wait for them; they wait for none of those. A cut in one direction looks the same: who
// still hears goes on to the next exchange, and waits there; or the wave ends for it, and the other
// waits for its last word, which counts as well. Who waits alone waits for somebody that is slow or
// held up, which others look after (worker_watch.h, leases).
//
// Links are those of nodes, so whole nodes are left out; ranks of one node hear each other through
// its memory. Who must go is a vertex cover of the cuts; taking the node with the most cuts is not
// always the smallest one, but it is where one link or all links of one node are cut. Of equal ones
// goes that which more ranks of others wait for, then the one with fewer ranks, then the later one.
//
// Who was left out may come back after kOutMin, twice as long each time it happens again, up to
// kOutMax; after kForgetAfter in the cluster all is forgotten.
// Threads: one owner. Bounds: a list of ranks per rank. Time never goes back.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/id.h"

namespace trireme::coordinator {

class CutJudge {
 public:
  // From then on that both have said so, which they do after a second.
  static constexpr Duration kPatience = std::chrono::seconds(2);
  static constexpr Duration kOutMin = std::chrono::seconds(10);
  static constexpr Duration kOutMax = std::chrono::minutes(2);
  static constexpr Duration kForgetAfter = std::chrono::minutes(2);

  // The node of each rank that can be in waves.
  using Nodes = std::map<EngineId, uint32_t>;
  struct Verdict {
    EngineId out;
    EngineId other;  // That it cannot hear; or, that one of its node cannot.
    Duration length;
  };

  // What a rank said longer ago than `freshness` does not count: it may have come to a stop since.
  explicit CutJudge(Duration freshness) : freshness_(freshness) {}

  // Whom the rank waits for now; replaces what it said before.
  void on_report(Instant now, EngineId rank, const std::vector<uint32_t>& awaits);
  // The wave has ended for it.
  void on_end(Instant now, EngineId rank);
  void forget(EngineId rank);
  void forget_all();
  // Another wave has begun.
  void forget_ends();

  // Who is to be left out now, each rank once; what they said is forgotten.
  [[nodiscard]] std::vector<Verdict> judge(Instant now, const Nodes& nodes);
  // When judge() has something to decide, at the earliest.
  [[nodiscard]] Instant wakeup() const;

 private:
  using Pair = std::pair<EngineId, EngineId>;  // The smaller one first.
  struct Wait {
    std::set<EngineId> awaits;
    Instant heard_at{};
  };
  struct Past {
    Instant back_at{};
    Duration length{};
  };
  // Ranks that cannot hear each other, by the nodes that they are on.
  using Cuts = std::map<std::pair<uint32_t, uint32_t>, Pair>;

  [[nodiscard]] bool is_deaf_to(EngineId rank, EngineId other) const;
  [[nodiscard]] bool is_mutual(EngineId a, EngineId b) const;
  void drop_pairs_of(EngineId rank);  // That are none any more.
  void note_pair(Instant now, EngineId a, EngineId b);
  [[nodiscard]] bool is_fresh(Instant now, EngineId rank) const;
  [[nodiscard]] Cuts take_cuts(Instant now, const Nodes& nodes);
  [[nodiscard]] uint32_t choose(const Cuts& cuts, const Nodes& nodes) const;
  [[nodiscard]] Duration sentence(Instant now, EngineId rank);

  Duration freshness_;
  std::map<EngineId, Wait> waits_;
  std::set<EngineId> ended_;
  std::map<Pair, Instant> mutual_;  // Since when.
  std::map<EngineId, Past> past_;
};

}  // namespace trireme::coordinator
