#include "worker/worker_core.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "worker/drafter.h"
#include "worker/float_buffer.h"
#include "worker/forward_plan.h"
#include "worker/pooler.h"
#include "worker/row_samplers.h"
#include "worker/sampler.h"
#include "worker/sequence_table.h"

namespace trireme::worker {
namespace {

class WorkerCore final : public Worker {
 public:
  explicit WorkerCore(WorkerParts parts)
      : parts_(std::move(parts)),
        vocabulary_(parts_.model->vocabulary_size()),
        models_{parts_.model.get()},
        plan_(parts_.logits_rows_max),
        samplers_(parts_.pool),
        pooler_(parts_.model->hidden_size()) {
    TRIREME_CHECK(is_first() || parts_.links.from_previous != nullptr,
                  "a later stage has a pipe in");
    TRIREME_CHECK(is_last() || parts_.links.to_next != nullptr, "an earlier stage has a pipe out");
    if (!parts_.draft || parts_.draft->model == nullptr) return;
    models_.push_back(parts_.draft->model.get());
    drafter_.emplace(*models_.back(), parts_.draft->tokens_max, parts_.pool);
  }

  [[nodiscard]] wire::WorkerReady ready() const override {
    const WorkerPlace& place = parts_.place;
    return {.rank = place.tp_rank + place.tp_size * place.pp_rank,
            .pid = static_cast<uint32_t>(::getpid()),
            .weight_bytes = sum([](const Model& model) { return model.weight_bytes(); }),
            .block_bytes = block_bytes(),
            .kv_bytes_max = parts_.kv_bytes_max,
            .load_milliseconds = parts_.load_milliseconds,
            .needs_whole_prompts = parts_.model->needs_whole_prompts()};
  }

  [[nodiscard]] Status allocate_kv(uint32_t block_count) override {
    if (table_) return error(StatusCode::kInternal, "KV memory is allocated once");
    if (block_count == 0) return error(StatusCode::kInvalidArgument, "KV memory of 0 blocks");
    for (Model* model : models_) TRIREME_RETURN_IF_ERROR(model->allocate_kv(block_count));
    table_.emplace(SequenceTable::Limits{.vocabulary_size = vocabulary_,
                                         .block_count = block_count,
                                         .block_tokens = parts_.model->kv_shape().block_tokens,
                                         .has_draft_model = parts_.draft.has_value()});
    block_count_ = block_count;
    moves_.emplace(BlockMoves::Limits{.block_count = block_count}, nullptr);
    return absl::OkStatus();
  }

  [[nodiscard]] Status open_store(uint32_t slot_count) override {
    if (!table_) return error(StatusCode::kInternal, "the store comes after KV memory");
    if (!parts_.open_store) return error(StatusCode::kInternal, "this worker has no store");
    TRIREME_ASSIGN_OR_RETURN(
        auto store, parts_.open_store(slot_count, block_bytes(), block_count_ * block_bytes()));
    moves_.emplace(BlockMoves::Limits{.block_count = block_count_, .slot_count = slot_count},
                   std::move(store));
    return absl::OkStatus();
  }

  [[nodiscard]] StatusOr<wire::StepResult> execute(const wire::StepInput& step) override {
    if (!table_) return error(StatusCode::kInternal, "step %u before KV memory", step.step.value);
    const Instant begin = now();
    life().begin_step(step.step);
    TRIREME_RETURN_IF_ERROR(table_->apply(step));
    wire::StepResult result{.step = step.step};
    TRIREME_RETURN_IF_ERROR(moves_->apply(step, models_, result));
    result.row_token.assign(step.row_slot.size(), wire::kNoToken);
    TRIREME_RETURN_IF_ERROR(find_drafts(step));
    if (!drafts_.empty()) result.row_accepted.assign(step.row_slot.size(), 0);
    plan_.begin(step, drafts_, *table_);
    while (plan_.next()) TRIREME_RETURN_IF_ERROR(run_forward(step, result));
    const auto spent = std::chrono::duration_cast<std::chrono::microseconds>(now() - begin);
    result.compute_microseconds = static_cast<uint32_t>(spent.count());
    life().enter(WorkerPhase::kDone);
    return result;
  }

 private:
  template <typename Bytes>
  [[nodiscard]] uint64_t sum(const Bytes& bytes) const {
    uint64_t total = 0;
    for (const Model* model : models_) total += bytes(*model);
    return total;
  }
  [[nodiscard]] uint64_t block_bytes() const {
    return sum([](const Model& model) { return model.kv_shape().block_bytes; });
  }
  [[nodiscard]] const LifeSigns& life() const { return parts_.links.life; }
  [[nodiscard]] bool is_first() const { return parts_.place.pp_rank == 0; }
  [[nodiscard]] bool is_last() const { return parts_.place.pp_rank + 1 == parts_.place.pp_size; }

  // Every rank needs the token, but the engine reads logprobs from the first one only.
  [[nodiscard]] bool is_reporting() const { return parts_.place.tp_rank == 0; }

  // The step's own, or those that a draft model guesses: the same on every rank and stage.
  Status find_drafts(const wire::StepInput& step) {
    drafts_ = step.draft_tokens;
    guesses_.clear();
    if (!parts_.draft) return absl::OkStatus();
    if (step.draft_tokens.empty()) {
      uint32_t count = 0;
      for (const uint32_t of_row : step.row_draft_count) count += of_row;
      guesses_.assign(count, 0);
      drafts_ = guesses_;
    }
    if (is_first() && drafter_) TRIREME_RETURN_IF_ERROR(drafter_->guess(step, *table_, guesses_));
    return guesses_.empty() ? absl::OkStatus() : pass_on_guesses();
  }

  // As the numbers that links carry: exact up to 2^24, and no vocabulary is as large.
  Status pass_on_guesses() {
    const std::span<float> values = guess_values_.take(guesses_.size());
    std::copy(guesses_.begin(), guesses_.end(), values.begin());
    if (!is_first()) {
      life().enter(WorkerPhase::kReceiving);
      TRIREME_RETURN_IF_ERROR(parts_.links.from_previous->receive(values));
    } else if (parts_.draft->is_first_ranks) {
      life().enter(WorkerPhase::kReducing);
      TRIREME_RETURN_IF_ERROR(parts_.links.tensor_parallel->all_reduce_sum(values));
    }
    std::transform(values.begin(), values.end(), guesses_.begin(),
                   [](float value) { return static_cast<int32_t>(value); });
    if (is_last()) return absl::OkStatus();
    life().enter(WorkerPhase::kSending);
    return parts_.links.to_next->send(values);
  }

  Status run_forward(const wire::StepInput& step, wire::StepResult& result) {
    ForwardBatch batch = plan_.batch();
    const std::size_t hidden_count = batch.tokens.size() * parts_.model->hidden_size();
    std::span<float> hidden_in;
    std::span<float> hidden_out;
    std::span<float> logits;
    if (!is_first()) {
      hidden_in = hidden_in_.take(hidden_count);
      life().enter(WorkerPhase::kReceiving);
      TRIREME_RETURN_IF_ERROR(parts_.links.from_previous->receive(hidden_in));
    }
    if (is_last()) {
      logits = logits_.take(batch.logits_tokens.size() * vocabulary_);
      batch.features = features_.take(batch.feature_tokens.size() * parts_.model->hidden_size());
    } else {
      hidden_out = hidden_out_.take(hidden_count);
      batch.logits_tokens = {};
      batch.feature_tokens = {};
    }
    TRIREME_RETURN_IF_ERROR(parts_.model->forward(batch, hidden_in, hidden_out, logits));
    life().enter(is_last() ? WorkerPhase::kSampling : WorkerPhase::kSending);
    if (!is_last()) return parts_.links.to_next->send(hidden_out);
    sample_all(step, logits);
    for (const Chain& chain : chains_) take_chain(step, chain, result);
    for (const PoolUse& use : plan_.pool_uses()) pool(step, use, batch.features, result);
    return absl::OkStatus();
  }

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

  void find_chains() {
    chains_.clear();
    const auto uses = plan_.uses();
    for (std::size_t i = 0; i < uses.size(); ++i) {
      const std::size_t begin = i;
      while (uses[i].draft != wire::kNoToken) ++i;
      chains_.push_back({begin, i + 1, begin});
    }
  }

  // Chains are independent, so who takes which one is open: the table stays as it is meanwhile, but
  // for sequences with drafts, which have no other chain.
  void sample_all(const wire::StepInput& step, std::span<float> logits) {
    find_chains();
    if (outcomes_.size() < plan_.uses().size()) outcomes_.resize(plan_.uses().size());
    samplers_.run(
        chains_.size(), plan_.uses().size() * vocabulary_,
        [&](std::size_t i, Sampler& sampler) { sample_chain(step, chains_[i], logits, sampler); });
  }

  // Up to the first draft that is not what sampling picks: from there on nothing is as it was
  // computed for.
  void sample_chain(const wire::StepInput& step, Chain& chain, std::span<float> logits,
                    Sampler& sampler) {
    for (std::size_t i = chain.begin; i < chain.end; ++i) {
      const LogitsUse& use = plan_.uses()[i];
      use_logits(step, use, logits.subspan(i * vocabulary_, vocabulary_), sampler, outcomes_[i]);
      chain.used_end = i + 1;
      if (use.draft == wire::kNoToken || outcomes_[i].token != use.draft) return;
      table_->append(step.row_slot[use.row], use.draft);
    }
  }

  void use_logits(const wire::StepInput& step, const LogitsUse& use, std::span<float> logits,
                  Sampler& sampler, Outcome& outcome) const {
    const Sequence& sequence = table_->at(step.row_slot[use.row]);
    outcome.token = wire::kNoToken;
    outcome.logprobs.token_ids.clear();
    if (use.samples) {
      const SamplingRow row{.logits = logits,
                            .params = sequence.sampling,
                            .tokens = sequence.tokens,
                            .prompt_count = sequence.prompt_count,
                            .counts = &sequence.counts};
      outcome.token = sampler.sample(row, is_reporting() ? &outcome.logprobs : nullptr);
    } else if (is_reporting()) {
      const int32_t token = sequence.tokens[use.position + 1];
      const bool is_good =
          sampler.describe(logits, token, sequence.sampling.prompt_logprobs, outcome.logprobs);
      if (!is_good) outcome.token = wire::kBadLogits;
    }
  }

  void take_chain(const wire::StepInput& step, const Chain& chain, wire::StepResult& result) {
    const LogitsUse& last = plan_.uses()[chain.used_end - 1];
    const int32_t outcome = outcomes_[chain.used_end - 1].token;
    int32_t& token = result.row_token[last.row];
    // Bad logits of its prompt fail the row, whatever it samples.
    if (token != wire::kBadLogits) token = outcome;
    if (last.samples) table_->append(step.row_slot[last.row], outcome);
    const std::size_t accepted = chain.used_end - 1 - chain.begin;
    if (accepted > 0) result.row_accepted[last.row] = static_cast<uint32_t>(accepted);
    for (std::size_t i = chain.begin; i < chain.begin + accepted && !guesses_.empty(); ++i) {
      result.accepted_tokens.push_back(plan_.uses()[i].draft);
    }
    for (std::size_t i = chain.begin; i < chain.used_end; ++i) {
      take_logprobs(plan_.uses()[i], outcomes_[i], result);
    }
  }

  static void take_logprobs(const LogitsUse& use, Outcome& outcome, wire::StepResult& result) {
    if (outcome.logprobs.token_ids.empty()) return;
    wire::RowLogprobs& row = logprobs_of(use.row, result);
    (use.samples ? row.sampled : row.prompt).push_back(std::move(outcome.logprobs));
  }

  void pool(const wire::StepInput& step, const PoolUse& use, std::span<const float> features,
            wire::StepResult& result) {
    const uint32_t slot = step.row_slot[use.row];
    if (!pooler_.take(slot, use, features)) return;
    std::vector<float> pooled = pooler_.finish(slot);
    if (pooled.empty()) {
      result.row_token[use.row] = wire::kBadLogits;
    } else if (is_reporting()) {
      result.pooled.push_back({use.row, std::move(pooled)});
    }
  }

  // Uses come by rising row, so the row's entry is the last one or not there yet.
  static wire::RowLogprobs& logprobs_of(uint32_t row, wire::StepResult& result) {
    if (result.logprobs.empty() || result.logprobs.back().row != row) {
      result.logprobs.emplace_back().row = row;
    }
    return result.logprobs.back();
  }

  WorkerParts parts_;
  uint32_t vocabulary_;
  std::vector<Model*> models_;  // The main one, and the draft model where it is here.
  std::optional<Drafter> drafter_;
  uint32_t block_count_ = 0;
  std::optional<SequenceTable> table_;  // From allocate_kv() on.
  std::optional<BlockMoves> moves_;     // Likewise.
  std::vector<int32_t> guesses_;        // Of the step, where a draft model makes them.
  std::span<const int32_t> drafts_;     // Of the step.
  ForwardPlan plan_;
  RowSamplers samplers_;
  std::vector<Outcome> outcomes_;
  std::vector<Chain> chains_;
  Pooler pooler_;
  FloatBuffer logits_;
  FloatBuffer features_;
  FloatBuffer hidden_in_;
  FloatBuffer hidden_out_;
  FloatBuffer guess_values_;
};

}  // namespace

std::unique_ptr<Worker> make_worker(WorkerParts parts) {
  return std::make_unique<WorkerCore>(std::move(parts));
}

}  // namespace trireme::worker
