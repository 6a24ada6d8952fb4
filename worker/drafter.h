// Drafter: guesses what follows a sequence, with a second model of the same vocabulary.
//
//   step ─▶ catch up: the rows that want guesses, over all tokens that the draft model has no KV of
//        ─▶ first guess of each ─▶ a forward over these ─▶ second guess ─▶ ... ─▶ the step itself
//
// A guess is what the sequence's own sampling rules and noise pick from the draft model's logits,
// so where the two models agree it is right for sampled requests too. A wrong one, or KV of the
// draft model that is not what it should be, costs time and changes no token.
//
// The draft model's KV lies in blocks of the same numbers and tokens as the main model's, so who
// shares, saves or loads a block has both. A row that wants no guess is left behind, and the last
// guess is not computed, but a block that the step may fill is: others may find it from then on.
//
// Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"
#include "proto/step.h"
#include "worker/float_buffer.h"
#include "worker/models/model.h"
#include "worker/row_samplers.h"
#include "worker/sequence_table.h"

namespace trireme::worker {

class Drafter {
 public:
  // The model and the pool outlive it. Of a sequence only the first `tokens_max` tokens are ever
  // computed.
  Drafter(Model& model, uint32_t tokens_max, ThreadPool* pool)
      : model_(model), tokens_max_(tokens_max), samplers_(pool) {}

  // `step` has been applied to `table`, which is left as it was. `guesses`: step.row_draft_count of
  // each row, flat; empty: none is wanted.
  [[nodiscard]] Status guess(const wire::StepInput& step, SequenceTable& table,
                             std::span<int32_t> guesses);

 private:
  // How far the KV of a slot's sequence reaches.
  struct Reach {
    uint32_t count = 0;            // Positions of known tokens,
    std::vector<int32_t> guessed;  // and of these behind them, whatever they turn out to be.
  };
  struct Work {
    uint32_t slot = 0;
    uint32_t wanted = 0;         // Guesses,
    uint32_t guesses_begin = 0;  // and where they go.
    uint32_t forwards = 0;
    uint32_t begin = 0;  // The first position of the next forward.
    uint32_t end = 0;
  };

  void begin_arrivals(const wire::StepInput& step);
  [[nodiscard]] Status plan(const wire::StepInput& step, const SequenceTable& table,
                            bool is_guessing);
  [[nodiscard]] Reach& find_reach(uint32_t slot, const Sequence& sequence, uint32_t computed);
  [[nodiscard]] Status run_forward(const SequenceTable& table, uint32_t depth);
  void sample(SequenceTable& table, uint32_t depth, std::span<int32_t> guesses);

  Model& model_;
  uint32_t tokens_max_;
  RowSamplers samplers_;
  std::vector<Reach> reach_;  // By slot.

  std::vector<Work> work_;      // Of the step.
  std::vector<uint32_t> open_;  // Those of them that want the next guess: the rows of logits.
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<ForwardRow> rows_;
  std::vector<uint32_t> logits_tokens_;
  FloatBuffer logits_buffer_;
  std::span<float> logits_;
};

}  // namespace trireme::worker
