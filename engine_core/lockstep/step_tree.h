// StepTree: how nodes that step together learn one summary of all their ranks' records. Pure.
//
//   node 0 is the root, node i reports to (i - 1) / kFanOut
//   up:    what a node and all below it say of a step, when all of that is there
//   down:  the summary of all, from the root; each node passes it on
//
// Up to 17 nodes take one hop up and down, 273 two, 1,024 three. Messages may be lost, repeated and
// overtake each other: they name the wave and the step, and repeat() says again what a neighbour
// may have missed. Two steps are kept, as in record_table.h.
//
// Threads: one owner. Bounds: two summaries per child.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine_core/lockstep/step_record.h"

namespace trireme::engine {

struct TreeMessage {
  WaveId wave;
  uint64_t step = 0;
  bool is_down = false;
  StepSummary summary;
};

class StepTree {
 public:
  // So many small messages cost a node less than another hop costs all.
  static constexpr uint32_t kFanOut = 16;

  struct Send {
    uint32_t node = 0;
    TreeMessage message;
  };

  // Of a wave over `node_count` nodes, of which this one is number `node`.
  StepTree(WaveId wave, uint32_t node, uint32_t node_count);

  // What all ranks of this node say of the step; steps come in order, each once.
  void post(uint64_t step, const StepSummary& own);
  // What is not for this wave, or comes late or twice, changes nothing.
  void on_message(uint32_t from, const TreeMessage& message);
  void repeat();

  [[nodiscard]] uint32_t node() const { return node_; }
  [[nodiscard]] std::optional<StepSummary> result(uint64_t step) const;
  // Of the step posted last: those that have said nothing yet; the parent, when only the result is
  // missing.
  [[nodiscard]] std::vector<uint32_t> awaited() const;
  // To be sent in this order; may be lost.
  [[nodiscard]] std::vector<Send> take_sends();

  [[nodiscard]] static uint32_t parent_of(uint32_t node) { return (node - 1) / kFanOut; }

 private:
  // A summary of each of two steps.
  class TwoSteps {
   public:
    void put(uint64_t step, const StepSummary& summary);
    [[nodiscard]] std::optional<StepSummary> at(uint64_t step) const;

   private:
    struct Entry {
      uint64_t step = 0;  // 0: none.
      StepSummary summary;
    };
    std::array<Entry, 2> entries_;
  };

  [[nodiscard]] bool is_root() const { return node_ == 0; }
  [[nodiscard]] std::optional<StepSummary> subtree(uint64_t step) const;
  void advance(uint64_t step);
  void tell_children(uint64_t step, const StepSummary& all);
  void send(uint32_t node, uint64_t step, bool is_down, const StepSummary& summary);

  WaveId wave_;
  uint32_t node_;
  uint32_t first_child_;
  std::vector<TwoSteps> children_;
  TwoSteps own_;
  TwoSteps results_;
  uint64_t step_ = 0;  // Posted last.
  std::vector<Send> sends_;
};

}  // namespace trireme::engine
