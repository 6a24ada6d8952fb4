// StepSampler: from the logits and features of a step's forwards to its result: tokens, accepted
// drafts, logprobs, pooled vectors. What is sampled is appended to the sequences.
// Threads: one owner; a pool helps with many rows.
#pragma once

#include <span>
#include <vector>

#include "proto/step.h"
#include "worker/forward_plan.h"
#include "worker/pooler.h"
#include "worker/row_samplers.h"
#include "worker/sampler.h"
#include "worker/sequence_table.h"

namespace trireme::worker {

class StepSampler {
 public:
  struct Sizes {
    uint32_t vocabulary = 0;
    uint32_t hidden = 0;
  };
  // Not is_reporting: logprobs and vectors are another rank's to tell. The pool may be null.
  StepSampler(const Sizes& sizes, bool is_reporting, ThreadPool* pool)
      : vocabulary_(sizes.vocabulary),
        is_reporting_(is_reporting),
        samplers_(pool),
        pooler_(sizes.hidden) {}

  struct Step {
    const wire::StepInput& input;
    bool tells_drafts = false;  // The engine does not know them.
    SequenceTable& table;
    wire::StepResult& result;
  };
  // Of the forward that the plan is at. The logits are overwritten.
  void take(const Step& step, const ForwardPlan& plan, std::span<float> logits,
            std::span<const float> features);

 private:
  // What one row of logits gave.
  struct Outcome {
    int32_t token = wire::kNoToken;  // kNoToken: it described a prompt token.
    wire::TokenLogprobs logprobs;
  };
  // Rows of logits whose outcomes hang on one another: one, or those of a row with drafts.
  struct Chain {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t used_end = 0;  // Of those after it the outcome was never asked.
  };

  void find_chains(std::span<const LogitsUse> uses);
  void sample_chain(const Step& step, std::span<const LogitsUse> uses, Chain& chain,
                    std::span<float> logits, Sampler& sampler);
  void use_logits(const Step& step, const LogitsUse& use, std::span<float> logits, Sampler& sampler,
                  Outcome& outcome) const;
  void take_chain(const Step& step, std::span<const LogitsUse> uses, const Chain& chain);
  void pool(const Step& step, const PoolUse& use, std::span<const float> features);

  uint32_t vocabulary_;
  bool is_reporting_;
  RowSamplers samplers_;
  std::vector<Outcome> outcomes_;
  std::vector<Chain> chains_;
  Pooler pooler_;
};

}  // namespace trireme::worker
