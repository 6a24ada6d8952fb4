// LoadBalancer: which engine gets the next request. Pure: counts in, a rank out.
//
//   score = 4 * (waiting + sent but not yet seen by the engine) + running      (vLLM's weights)
//
// The counts are exact, not a snapshot with a guess on top: an engine says with its load how many
// of our requests it has taken, and what we sent beyond that counts as waiting. The lowest score
// wins; ties go round. O(engines) a request, which is 1 us at 1,024.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "proto/engine_outputs.h"

namespace trireme::api {

class LoadBalancer {
 public:
  struct Entry {
    bool is_eligible = false;  // Ready, not draining, not lost.
    wire::EngineStats stats;
    uint64_t sent = 0;      // By us, to this life of the engine.
    uint64_t received = 0;  // Of those, taken by it when `stats` was written.
  };

  // A new life of the engine: counts start at zero.
  void reset(uint32_t rank);
  void set_eligible(uint32_t rank, bool is_eligible);
  void count_sent(uint32_t rank) { ++at(rank).sent; }
  // From the engine itself; always newer than what we have.
  void update(uint32_t rank, const wire::EngineStats& stats, uint64_t received);
  // From the coordinator's board; taken only if its step is later than what the engine told us.
  void update_from_board(uint32_t rank, const wire::EngineStats& stats);

  // `excluded`: ranks whose queues were found full for this request.
  [[nodiscard]] std::optional<uint32_t> choose(const std::vector<uint32_t>& excluded = {});
  [[nodiscard]] uint64_t score(uint32_t rank) const;
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

 private:
  Entry& at(uint32_t rank);

  std::vector<Entry> entries_;
  uint32_t next_ = 0;  // Where the scan begins, so that ties go round.
};

}  // namespace trireme::api
