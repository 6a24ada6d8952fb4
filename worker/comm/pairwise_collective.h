// PairwiseCollective: the collective of tensor-parallel ranks that are not all on one node: a pipe
// to and a pipe from every other rank (shared memory to those on the same node).
//
// Each rank sends its part to every other, then reads theirs and adds in rank order: the same bits
// as ShmCollective. Longer arrays go piece by piece. It cannot deadlock: a rank is at most one
// piece ahead of the slowest, and a pipe holds at least kPiecesAheadMax.
// Threads: one.
#pragma once

#include <memory>
#include <vector>

#include "worker/comm/collective.h"
#include "worker/comm/pipe.h"

namespace trireme::worker {

class PairwiseCollective final : public Collective {
 public:
  static constexpr std::size_t kPartFloats = 32 * 1024;
  static constexpr int kPiecesAheadMax = 2;

  struct Peer {
    std::unique_ptr<HiddenPipe> out;
    std::unique_ptr<HiddenPipe> in;
  };
  // `peers` by rank; that of `rank` itself stays empty. Their limits bound every wait.
  PairwiseCollective(uint32_t rank, std::vector<Peer> peers);

  [[nodiscard]] uint32_t rank() const override { return rank_; }
  [[nodiscard]] uint32_t size() const override { return static_cast<uint32_t>(peers_.size()); }
  [[nodiscard]] Status all_reduce_sum(std::span<float> values) override;
  [[nodiscard]] Status all_gather(std::span<const float> mine, std::span<float> out) override;
  [[nodiscard]] Status barrier() override;

 private:
  [[nodiscard]] Status send_to_all(std::span<const float> piece);
  [[nodiscard]] Status receive_from(uint32_t rank, std::span<float> piece);
  [[nodiscard]] Status reduce_piece(std::span<float> piece);

  uint32_t rank_;
  std::vector<Peer> peers_;
  std::vector<float> mine_;
  std::vector<float> theirs_;
  Status broken_ = absl::OkStatus();
};

}  // namespace trireme::worker
