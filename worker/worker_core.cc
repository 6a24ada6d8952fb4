#include "worker/worker_core.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "worker/drafter.h"
#include "worker/float_buffer.h"
#include "worker/forward_plan.h"
#include "worker/sequence_table.h"
#include "worker/step_sampler.h"

namespace trireme::worker {
namespace {

class WorkerCore final : public Worker {
 public:
  explicit WorkerCore(WorkerParts parts)
      : parts_(std::move(parts)),
        vocabulary_(parts_.model->vocabulary_size()),
        models_{parts_.model.get()},
        plan_(parts_.logits_rows_max),
        sampler_({.vocabulary = vocabulary_, .hidden = parts_.model->hidden_size()},
                 parts_.place.tp_rank == 0, parts_.pool) {
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
            .needs_whole_prompts = parts_.model->needs_whole_prompts(),
            .expert_endpoint = experts() == nullptr ? std::string() : experts()->address()};
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

  void release_kv() override {
    for (Model* model : models_) model->release_kv();
  }

  [[nodiscard]] Status join_wave(const wire::JoinWave& wave) override {
    if (experts() == nullptr) {
      if (wave.ranks.size() < 2) return absl::OkStatus();
      return error(StatusCode::kInternal,
                   "wave %u has %u ranks, but this worker divides its experts with nobody",
                   wave_number(wave.wave), wave.ranks.size());
    }
    const WorkerPlace& place = parts_.place;
    const uint32_t workers = place.tp_size * place.pp_size;
    if (!wave.endpoints.empty() && wave.endpoints.size() != wave.ranks.size() * workers) {
      return error(StatusCode::kInternal, "wave %u has %u ranks of %u workers, and %u endpoints",
                   wave.wave.value, wave.ranks.size(), workers, wave.endpoints.size());
    }
    std::vector<uint32_t> places;
    std::vector<std::string> addresses;
    for (std::size_t rank = 0; rank < wave.ranks.size(); ++rank) {
      for (uint32_t i = 0; i < place.tp_size; ++i) {
        places.push_back(wave.ranks[rank] * place.tp_size + i);
        if (wave.endpoints.empty()) continue;
        addresses.push_back(wave.endpoints[rank * workers + place.pp_rank * place.tp_size + i]);
      }
    }
    return experts()->join(wave.wave, places, addresses);
  }

  [[nodiscard]] wire::ExpertTable expert_table() const override {
    wire::ExpertTable table;
    if (experts() != nullptr) table = experts()->table().value_or(table);
    table.stage = parts_.place.pp_rank;
    return table;
  }

  [[nodiscard]] StatusOr<wire::StepResult> execute(const wire::StepInput& step) override {
    if (!table_) return error(StatusCode::kInternal, "step %u before KV memory", step.step.value);
    const Instant begin = now();
    const bool is_again = step.kind == wire::StepKind::kAgain;
    if (is_again && step_ != &kept_step_) {
      return error(StatusCode::kInternal, "no step was kept that could be run again");
    }
    TRIREME_RETURN_IF_ERROR(check_wave(step));
    const StepId id = is_again && step.step.value == 0 ? kept_step_.step : step.step;
    life().begin_step(id);
    if (!is_again) TRIREME_RETURN_IF_ERROR(take_in(step));
    TRIREME_RETURN_IF_ERROR(run_forwards());
    life().enter(WorkerPhase::kDone);
    if (is_abandoned_) return wire::StepResult{.step = id, .is_abandoned = true};
    const auto spent = std::chrono::duration_cast<std::chrono::microseconds>(now() - begin);
    result_.step = id;
    result_.compute_microseconds = static_cast<uint32_t>(spent.count());
    is_unfinished_ = false;
    if (experts() == nullptr) return std::move(result_);
    if (const auto load = experts()->load()) {
      result_.expert_load = wire::ExpertLoad{
          .rows = load->rows, .moves = load->moves, .balancedness = load->balancedness};
    }
    return result_;  // Another stage may still want the step again.
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

  // The wave that this worker computes experts in; null: they are not divided.
  [[nodiscard]] ExpertExchange* experts() const { return parts_.links.experts.get(); }

  Status check_wave(const wire::StepInput& step) const {
    if (experts() == nullptr) return absl::OkStatus();
    if (experts()->size() > 0 && step.wave == experts()->wave()) return absl::OkStatus();
    return error(StatusCode::kInternal, "step %u is of wave %u, but this worker joined %s",
                 step.step.value, wave_number(step.wave),
                 experts()->size() == 0 ? "none" : std::to_string(wave_number(experts()->wave())));
  }

  // Once for each step, however often its forwards are run.
  Status take_in(const wire::StepInput& step) {
    wire::StepResult result{.step = step.step};
    if (is_unfinished_) {
      // It is forgotten, but not what became of the store.
      result.lost_slots = std::move(result_.lost_slots);
      result.failed_load_count = result_.failed_load_count;
    }
    if (experts() != nullptr) kept_step_ = step;
    step_ = experts() != nullptr ? &kept_step_ : &step;
    done_forwards_ = 0;
    TRIREME_RETURN_IF_ERROR(table_->apply(step));
    TRIREME_RETURN_IF_ERROR(moves_->apply(step, models_, result));
    result.row_token.assign(step.row_slot.size(), wire::kNoToken);
    TRIREME_RETURN_IF_ERROR(find_drafts(*step_));
    if (!drafts_.empty()) result.row_accepted.assign(step.row_slot.size(), 0);
    result_ = std::move(result);
    is_unfinished_ = true;
    return absl::OkStatus();
  }

  // From the first forward that has not given its part of the result. A stage before the last does
  // not know which that is: it runs all of them again, and the last one drops what it has had.
  Status run_forwards() {
    is_abandoned_ = false;
    uint32_t index = 0;
    uint32_t run_count = 0;
    for (plan_.begin(*step_, drafts_, *table_); plan_.next(); ++index) {
      const bool is_done = index < done_forwards_;
      if (!is_abandoned_ && !is_done) ++run_count;
      TRIREME_RETURN_IF_ERROR(run_forward(is_done));
      if (is_abandoned_ && parts_.place.pp_size == 1) break;
    }
    if (experts() == nullptr || experts()->size() < 2 || is_abandoned_) return absl::OkStatus();
    // Nothing of this worker's hangs on what it computes for others alone.
    TRIREME_ASSIGN_OR_RETURN(const bool has_left, run_experts_for_others(run_count == 0));
    is_abandoned_ = has_left && index == 0;
    return absl::OkStatus();
  }

  // As many forwards as the member with the most has, at least one in all. True: the wave was left.
  StatusOr<bool> run_experts_for_others(bool is_wanted) {
    for (; is_wanted || experts()->others_have_more(); is_wanted = false) {
      experts()->begin_forward(false);
      TRIREME_RETURN_IF_ERROR(parts_.model->run_experts_for_others());
      if (experts()->is_abandoned()) return true;
    }
    return false;
  }

  // is_done: in an attempt before. When a forward is abandoned, hidden rows of those after it still
  // flow through the pipes, so that both ends of each stay in step; nobody looks at them.
  Status run_forward(bool is_done) {
    ForwardBatch batch = plan_.batch();
    const std::size_t hidden_count = batch.tokens.size() * parts_.model->hidden_size();
    std::span<float> hidden_in;
    std::span<float> hidden_out;
    std::span<float> logits;
    if (!is_first()) {
      hidden_in = hidden_in_.take(hidden_count + flag_count());
      TRIREME_RETURN_IF_ERROR(receive_hidden(hidden_in));
    }
    if (is_last()) {
      logits = logits_.take(batch.logits_tokens.size() * vocabulary_);
      batch.features = features_.take(batch.feature_tokens.size() * parts_.model->hidden_size());
    } else {
      hidden_out = hidden_out_.take(hidden_count + flag_count());
      batch.logits_tokens = {};
      batch.feature_tokens = {};
    }
    const bool is_wanted = !is_abandoned_ && !is_done;
    if (is_wanted) {
      if (experts() != nullptr) experts()->begin_forward(plan_.has_more());
      TRIREME_RETURN_IF_ERROR(
          parts_.model->forward(batch, hidden_in.first(is_first() ? 0 : hidden_count),
                                hidden_out.first(is_last() ? 0 : hidden_count), logits));
      TRIREME_RETURN_IF_ERROR(agree_on_abandonment());
    }
    if (!is_last()) return send_hidden(hidden_out);
    if (!is_wanted || is_abandoned_) return absl::OkStatus();
    life().enter(WorkerPhase::kSampling);
    sampler_.take(
        {.input = *step_, .tells_drafts = !guesses_.empty(), .table = *table_, .result = result_},
        plan_, logits, batch.features);
    ++done_forwards_;
    return absl::OkStatus();
  }

  // Behind the hidden rows of a forward, where it may be abandoned: whether it was.
  [[nodiscard]] std::size_t flag_count() const { return experts() == nullptr ? 0 : 1; }

  Status receive_hidden(std::span<float> hidden) {
    life().enter(WorkerPhase::kReceiving);
    TRIREME_RETURN_IF_ERROR(parts_.links.from_previous->receive(hidden));
    if (flag_count() > 0 && hidden.back() != 0.0F) is_abandoned_ = true;
    return absl::OkStatus();
  }

  Status send_hidden(std::span<float> hidden) {
    life().enter(WorkerPhase::kSending);
    if (flag_count() > 0) hidden.back() = is_abandoned_ ? 1.0F : 0.0F;
    return parts_.links.to_next->send(hidden);
  }

  // What one rank of a tensor-parallel group leaves none of them has: they sample the same.
  Status agree_on_abandonment() {
    if (experts() == nullptr) return absl::OkStatus();
    float leavers = experts()->is_abandoned() ? 1.0F : 0.0F;
    if (parts_.place.tp_size > 1) {
      TRIREME_RETURN_IF_ERROR(parts_.links.tensor_parallel->all_reduce_sum(std::span(&leavers, 1)));
    }
    is_abandoned_ = leavers > 0.0F;
    return absl::OkStatus();
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
  // The step that runs: where experts are divided, a copy that may be run again.
  const wire::StepInput* step_ = nullptr;
  wire::StepInput kept_step_;
  wire::StepResult result_;     // Of the forwards that are done.
  bool is_unfinished_ = false;  // The result was not given out.
  bool is_abandoned_ = false;   // This attempt.
  uint32_t done_forwards_ = 0;  // On the last stage, which alone knows: those that have sampled.
  ForwardPlan plan_;
  StepSampler sampler_;
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
