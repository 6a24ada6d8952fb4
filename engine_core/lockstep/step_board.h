// StepBoard: the records of all ranks of one node, in shared memory that who starts them holds.
//
//   memory:  Header | Cell[rank_count], a cell two slots
//
// A rank writes its own cell only, its last two records in turn (record_table.h says why two are
// enough), each under a sequence number that is odd while it is written: a reader takes what it
// read between two equal even ones. A rank that sleeps says so in its cell, and who posts writes to
// its eventfd; posting to ranks that are awake is a few stores.
//
// A process that is killed in the middle of a write leaves a slot that nobody reads; its successor
// goes on from there. Cost: decisions in a microsecond while ranks are awake, a wake-up otherwise.
// Threads: one per rank.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "common/shm/doorbell.h"
#include "common/shm/mapping.h"
#include "common/unique_fd.h"
#include "engine_core/lockstep/step_exchange.h"

namespace trireme::engine {

class StepBoard final : public StepExchange {
 public:
  static constexpr uint32_t kRanksMax = 1024;

  // Made once per node; the descriptors go to the processes of its ranks.
  struct Parts {
    shm::Mapping memory;
    std::vector<UniqueFd> bells;  // An eventfd per rank.
  };
  [[nodiscard]] static StatusOr<Parts> create(uint32_t first_rank, uint32_t rank_count);
  // kDataLoss: the memory is no board, or has no place for `rank`.
  [[nodiscard]] static StatusOr<std::unique_ptr<StepBoard>> attach(shm::Mapping memory,
                                                                   std::vector<UniqueFd> bells,
                                                                   uint32_t rank);

  void post(const StepRecord& record, std::span<const uint32_t> ranks) override;
  [[nodiscard]] std::optional<StepSummary> gather(WaveId wave, uint64_t step,
                                                  std::span<const uint32_t> ranks) override;
  [[nodiscard]] std::vector<uint32_t> missing(WaveId wave, uint64_t step,
                                              std::span<const uint32_t> ranks) override;
  [[nodiscard]] int fd() const override { return bells_[rank_ - first_rank_].get(); }
  void about_to_wait() override;
  void woke_up() override;

  [[nodiscard]] bool has(uint32_t rank) const {
    return rank >= first_rank_ && rank - first_rank_ < bells_.size();
  }
  [[nodiscard]] std::optional<StepRecord> find(uint32_t rank, WaveId wave, uint64_t step) const;

  // Where ranks are on several nodes: what the ranks of all of them say, written for this node's by
  // the first of those. Kept as a record in the cell of its writer's place, the last two.
  void post_result(WaveId wave, uint64_t step, const StepSummary& all,
                   std::span<const uint32_t> ranks);
  [[nodiscard]] std::optional<StepSummary> result(WaveId wave, uint64_t step) const;

 private:
  struct alignas(shm::kLine) Header {
    uint64_t magic;
    uint32_t first_rank;
    uint32_t rank_count;
  };
  struct Slot {
    std::atomic<uint64_t> sequence;
    std::atomic<uint64_t> wave;
    std::atomic<uint64_t> step;
    std::atomic<uint64_t> next;
    std::atomic<uint64_t> next_high;  // Of a summary.
    std::atomic<uint64_t> pause_sequence;
    std::atomic<uint32_t> pause_mode;
    std::atomic<uint32_t> has_work;
  };
  struct alignas(shm::kLine) Cell {
    std::array<Slot, 2> slots;
    std::array<Slot, 2> results;  // A summary: next is its next_low.
    std::atomic<uint32_t> sleeps;
  };
  static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");

  StepBoard(shm::Mapping memory, std::vector<UniqueFd> bells, uint32_t first_rank, uint32_t rank);
  [[nodiscard]] Cell& cell(uint32_t rank) const;
  struct Content {
    StepRecord record;
    WaveId next_high;
  };
  [[nodiscard]] static std::optional<Content> read(const Slot& slot);
  static void write(Slot& slot, const Content& content);
  void wake(std::span<const uint32_t> ranks);

  shm::Mapping memory_;
  std::vector<UniqueFd> bells_;
  uint32_t first_rank_;
  uint32_t rank_;
  uint32_t next_slot_ = 0;
  uint32_t next_result_ = 0;
};

}  // namespace trireme::engine
