// CutJudge: which ranks that step together cannot hear each other though the coordinator hears
// both, and who of them is left out. Pure.
//
//   a waits for b, b for c, and c for a, all for a while ─▶ links between their nodes are cut
//   nodes with cuts between them ─▶ the one with the most is left out, again until no cut is left
//
// A rank says whom it waits for in an exchange (WaveReport::awaits). One that computes, or whose
// worker is held up, waits for nobody; one that waits has come and said what it had to say. So of
// those that wait for each other in a circle all have come, and something did not arrive: between
// two of them on different nodes. Mostly these are two; but a rank that got the other node's rows
// may wait for a neighbour on its own node that did not, so circles of any length count. A cut in
// one direction looks the same: who still hears goes on to the next exchange, and waits there; or
// the wave ends for it, and the other waits for its last word, which counts as well, also when it
// is in a later wave by then. Who waits for
// somebody that waits for nobody waits for one that is slow or held up, which others look after
// (worker_watch.h, leases). All of a circle must say again that they wait after it has closed: who
// does not may have been stopped since.
//
// Links are those of nodes, so whole nodes are left out; ranks of one node hear each other through
// its memory. Who must go is a vertex cover of the cuts; taking the node with the most cuts is not
// always the smallest one, but it is where one link or all links of one node are cut. Of equal ones
// goes the one with fewer ranks, then the later one: whom ranks happen to wait for first says
// nothing.
//
// While a circle is open it wants to look every kLook. Who looks kGapMax later stood still itself
// (stopped, starved): what had piled up says nothing of now, so waits and circles begin anew. That
// a wave is over for somebody stays true.
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
  // From then on that a circle has closed; ranks say that they wait after a second.
  static constexpr Duration kPatience = std::chrono::seconds(2);
  static constexpr Duration kLook = std::chrono::milliseconds(250);
  static constexpr Duration kGapMax = std::chrono::seconds(1);
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

  // `patience`: at least kPatience, and long enough for a rank to say twice that it waits.
  explicit CutJudge(Duration patience) : patience_(patience) {}

  // Whom the rank waits for now, in this wave; replaces what it said before.
  void on_report(Instant now, EngineId rank, WaveId wave, const std::vector<uint32_t>& awaits);
  // The wave has ended for it.
  void on_end(Instant now, EngineId rank, WaveId wave);
  void forget(EngineId rank);
  void forget_all();

  // Who is to be left out now, each rank once; what they said is forgotten.
  [[nodiscard]] std::vector<Verdict> judge(Instant now, const Nodes& nodes);
  // When judge() has to look again, or something to decide.
  [[nodiscard]] Instant wakeup() const;

 private:
  using Edge = std::pair<EngineId, EngineId>;  // The first waits for the second.
  struct Wait {
    WaveId wave;
    std::set<EngineId> awaits;
    Instant heard_at{};
  };
  struct Place {
    WaveId wave;
    bool is_over = false;
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  struct Past {
    Instant back_at{};
    Duration length{};
  };
  // A wait in a circle, by the nodes of its ends, the smaller one first.
  using Cuts = std::map<std::pair<uint32_t, uint32_t>, Edge>;

  // First of all, whatever comes in.
  void look(Instant now);
  // After any change of what ranks have said.
  void find_circles(Instant now);
  [[nodiscard]] std::set<Edge> in_circles(const std::set<Edge>& waits) const;
  [[nodiscard]] bool is_past(EngineId rank, WaveId wave) const;
  [[nodiscard]] bool has_said_again(EngineId rank, Instant since) const;
  [[nodiscard]] Cuts take_cuts(Instant now, const Nodes& nodes);
  [[nodiscard]] static uint32_t choose(const Cuts& cuts, const Nodes& nodes);
  [[nodiscard]] Duration sentence(Instant now, EngineId rank);

  const Duration patience_;
  std::map<EngineId, Wait> waits_;
  std::map<EngineId, Place> places_;  // Where it said last that it is.
  std::map<Edge, Instant> circles_;   // The waits in them, and since when.
  std::map<EngineId, Past> past_;
  Instant looked_at_{};
};

}  // namespace trireme::coordinator
