// RowSamplers: samples many rows, over a thread pool where that is worth its while.
//
//   samplers.run(rows, logits_count, [&](std::size_t row, Sampler& sampler) { ... });
//
// Which thread takes a row is open, so rows must not depend on one another. Threads: one owner.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "worker/sampler.h"
#include "worker/thread_pool.h"

namespace trireme::worker {

class RowSamplers {
 public:
  explicit RowSamplers(ThreadPool* pool) : pool_(pool) {}  // Null: nobody helps.

  // `logits_count`: of all rows together.
  template <typename Body>
  void run(std::size_t rows, std::size_t logits_count, const Body& body) {
    const std::size_t helpers = pool_ == nullptr ? 1 : pool_->thread_count();
    const bool is_spread = helpers > 1 && logits_count >= kSpreadLogits;
    const std::size_t pieces = is_spread ? std::min(helpers * kPiecesPerThread, rows) : 1;
    while (samplers_.size() < pieces) samplers_.emplace_back();
    const auto run_piece = [&](uint32_t piece) {
      for (std::size_t i = piece; i < rows; i += pieces) body(i, samplers_[piece]);
    };
    if (!is_spread) return run_piece(0);
    pool_->run(static_cast<uint32_t>(pieces), run_piece);
  }

 private:
  // Fewer logits than this are sampled sooner than the pool wakes up.
  static constexpr std::size_t kSpreadLogits = 256 * 1024;
  static constexpr std::size_t kPiecesPerThread = 4;

  ThreadPool* pool_;
  std::vector<Sampler> samplers_;
};

}  // namespace trireme::worker
