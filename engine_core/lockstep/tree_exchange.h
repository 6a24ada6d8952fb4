// TreeExchange: records among ranks of several nodes: the board of this node (step_board.h), and a
// tree over the nodes (step_tree.h) that the first rank of each node in the wave is this node's
// part of. The others of the node find the summary of all on the board.
//
// Messages go through whoever owns the sockets: a Carrier; what comes back is given to hear(). A
// wave of one node is the board's alone.
// Threads: one owner, the engine's main thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engine_core/lockstep/step_board.h"
#include "engine_core/lockstep/step_tree.h"
#include "proto/step_agreement.h"

namespace trireme::engine {

// Never blocks; what cannot be sent now may be dropped.
class StepCarrier {
 public:
  virtual ~StepCarrier() = default;
  // The first rank of each node of the wave, by node: where it takes records.
  virtual void begin_wave(WaveId wave, uint32_t own_node, std::vector<std::string> addresses) = 0;
  virtual void send(uint32_t node, const wire::StepAgreement& message) = 0;
};

class TreeExchange final : public StepExchange {
 public:
  static constexpr std::size_t kEarlyMax = 1024;

  TreeExchange(uint32_t rank, std::unique_ptr<StepBoard> board, StepCarrier& carrier)
      : rank_(rank), board_(std::move(board)), carrier_(carrier) {}

  void hear(const wire::StepAgreement& message) override;
  void enter(const wire::StartWave& start) override;
  void post(const StepRecord& record, std::span<const uint32_t> ranks) override;
  [[nodiscard]] std::optional<StepSummary> gather(WaveId wave, uint64_t step,
                                                  std::span<const uint32_t> ranks) override;
  [[nodiscard]] std::vector<uint32_t> missing(WaveId wave, uint64_t step,
                                              std::span<const uint32_t> ranks) override;
  void repeat() override;
  [[nodiscard]] int fd() const override { return board_->fd(); }
  void about_to_wait() override { board_->about_to_wait(); }
  void woke_up() override { board_->woke_up(); }

 private:
  void take(StepTree& tree, const wire::StepAgreement& message);
  void pass_on(uint64_t step);
  void send_all(StepTree& tree);

  uint32_t rank_;
  std::unique_ptr<StepBoard> board_;
  StepCarrier& carrier_;
  wire::StartWave start_;
  std::vector<uint32_t> own_ranks_;  // Of the wave, on this node.
  std::optional<StepTree> tree_;     // Where this rank is its node's first, and there are others.
  // Of the wave before: a node below may have missed its last result, and nobody else has it.
  std::optional<StepTree> tree_before_;
  uint64_t posted_ = 0;  // To the tree.
  uint64_t told_ = 0;    // To the node's others.
  // What nodes that are in the next wave already have said last, by node.
  std::map<uint32_t, wire::StepAgreement> early_;
};

}  // namespace trireme::engine
