// ForwardPlan: cuts a step into forwards, so that the logits wanted at once stay bounded.
//
// Sampling needs one row of logits per sequence, prompt_logprobs one per prompt token. A step whose
// prompts want more than `logits_rows_max` rows runs as several forwards, cut inside a prompt where
// needed; the model's bits do not depend on such cuts. The cuts are a function of the step and the
// sequences alone, so that all ranks and stages make the same.
//
// A row's drafts are tokens behind its own, in the same forward; each of them, and the row's last
// token, has a row of logits, which says whether the next draft is right. Beyond the bound above up
// to kDraftLogitsRows are wanted at once for their sake.
//
//   plan.begin(step, drafts, table);
//   while (plan.next()) model.forward(plan.batch(), ...), use plan.uses()[i] for logits row i
//
// A sequence that pools wants features where others want logits: of one token, or with the mean of
// all of them, at most as many as the step has tokens.
//
// All memory is kept from step to step. Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "proto/step.h"
#include "worker/models/model.h"
#include "worker/sequence_table.h"

namespace trireme::worker {

struct LogitsUse {
  uint32_t row = 0;       // Of the step.
  uint32_t position = 0;  // The row of logits predicts the token at position + 1.
  bool samples = false;   // Else it describes a prompt token.
  int32_t draft =
      wire::kNoToken;  // The guess at what is sampled; the next use is for what follows.
};
inline constexpr uint32_t kDraftLogitsRows = 256;

// Hidden states that go into the vector of a sequence that pools: some neighbouring features.
struct PoolUse {
  uint32_t row = 0;            // Of the step.
  uint32_t feature_begin = 0;  // Into the batch's features.
  uint32_t feature_count = 0;
  bool begins = false;  // With the prompt's first token.
  bool ends = false;    // With its last one.
};

class ForwardPlan {
 public:
  explicit ForwardPlan(uint32_t logits_rows_max) : logits_rows_max_(logits_rows_max) {}

  // `step` has been applied to `table`; both stay as they are while the plan runs, but for tokens
  // appended to rows that sampled. `drafts`: step.row_draft_count of each row, flat; empty: none.
  void begin(const wire::StepInput& step, std::span<const int32_t> drafts,
             const SequenceTable& table);
  [[nodiscard]] bool next();
  // Will next() find another forward?
  [[nodiscard]] bool has_more() const { return row_ < step_->row_slot.size(); }

  [[nodiscard]] ForwardBatch batch() const {
    return {.tokens = tokens_,
            .positions = positions_,
            .rows = rows_,
            .logits_tokens = logits_tokens_,
            .feature_tokens = feature_tokens_};
  }
  [[nodiscard]] std::span<const PoolUse> pool_uses() const { return pool_uses_; }
  [[nodiscard]] std::span<const LogitsUse> uses() const { return uses_; }  // One per logits row.

 private:
  void add_piece(const Sequence& sequence, uint32_t end);
  void add_drafts();
  void add_pooled(const Sequence& sequence);  // Of the piece added last.
  [[nodiscard]] bool samples() const {        // The next row.
    return (step_->row_flags[row_] & wire::kRowSamples) != 0;
  }
  [[nodiscard]] uint32_t draft_count() const {  // Of the next row.
    return drafts_.empty() ? 0 : step_->row_draft_count[row_];
  }

  uint32_t logits_rows_max_;
  uint32_t logits_rows_now_ =
      0;  // The bound for this step: every sampling row fits into one forward.
  const wire::StepInput* step_ = nullptr;
  std::span<const int32_t> drafts_;
  const SequenceTable* table_ = nullptr;
  uint32_t row_ = 0;       // The next row of the step,
  uint32_t position_ = 0;  // its next position,
  uint32_t draft_ = 0;     // and its first draft.

  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<ForwardRow> rows_;
  std::vector<uint32_t> logits_tokens_;
  std::vector<LogitsUse> uses_;
  std::vector<uint32_t> feature_tokens_;
  std::vector<PoolUse> pool_uses_;
};

}  // namespace trireme::worker
