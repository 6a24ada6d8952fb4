// SequenceTable: what a worker knows of the running sequences, slot by slot, as the steps told it.
//
// apply() takes a step's changes in the protocol's order (freed slots, new sequences, then each
// row's known tokens and new blocks; drafts are checked and not kept) and checks what it can: a
// step of our engine that breaks the rules is a Status that names row, slot and numbers, never a
// crash. After a failed apply() the table is of no more use. Memory of a freed slot is kept for its
// next sequence. Threads: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/status.h"
#include "proto/step.h"
#include "worker/token_counts.h"

namespace trireme::worker {

inline constexpr uint32_t kSlotsMax = 1 << 16;

struct Sequence {
  bool is_live = false;
  uint32_t prompt_count = 0;
  std::vector<int32_t> tokens;  // Prompt, then output.
  std::vector<int32_t> blocks;
  wire::SamplingParams sampling;
  TokenCounts counts;      // Kept only if the penalties need them.
  uint64_t last_step = 0;  // To see a slot that has two rows in one step.
};

class SequenceTable {
 public:
  struct Limits {
    uint32_t vocabulary_size = 0;
    uint32_t block_count = 0;
    uint32_t block_tokens = 16;
    bool has_draft_model = false;  // A step may have numbers of drafts without the tokens.
  };
  explicit SequenceTable(const Limits& limits) : limits_(limits) {}

  [[nodiscard]] Status apply(const wire::StepInput& step);

  // The slot of a row of the step applied last.
  [[nodiscard]] const Sequence& at(uint32_t slot) const { return *slots_[slot]; }
  // The sequence got a token. After bad logits any token will do: the engine ends the sequence, and
  // a row that it has already made for it must find one.
  void append(uint32_t slot, int32_t token);
  // The last `count` of those appended are gone again.
  void take_back(uint32_t slot, uint32_t count);

 private:
  [[nodiscard]] Status check_shape(const wire::StepInput& step) const;
  [[nodiscard]] Status take_in(const wire::NewSequence& arrival);
  [[nodiscard]] Status check_tokens(std::span<const int32_t> tokens) const;
  [[nodiscard]] Status check_blocks(std::span<const int32_t> blocks) const;
  [[nodiscard]] Status extend(Sequence& sequence, uint32_t start, std::span<const int32_t> known);
  [[nodiscard]] Status apply_row(const wire::StepInput& step, std::size_t row,
                                 std::span<const int32_t> known, std::span<const int32_t> blocks);
  [[nodiscard]] Status check_row(const wire::StepInput& step, std::size_t row,
                                 const Sequence& sequence) const;
  void push(Sequence& sequence, int32_t token);

  Limits limits_;
  uint64_t step_count_ = 0;
  std::vector<std::unique_ptr<Sequence>> slots_;  // Null: never used.
};

}  // namespace trireme::worker
