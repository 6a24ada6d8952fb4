#include "worker/drafter.h"

#include <algorithm>

namespace trireme::worker {

Status Drafter::guess(const wire::StepInput& step, SequenceTable& table,
                      std::span<int32_t> guesses) {
  begin_arrivals(step);
  TRIREME_RETURN_IF_ERROR(plan(step, table, !guesses.empty()));
  uint32_t depth_max = 0;
  for (const Work& work : work_) depth_max = std::max(depth_max, work.forwards);
  for (uint32_t depth = 0; depth < depth_max; ++depth) {
    TRIREME_RETURN_IF_ERROR(run_forward(table, depth));
    sample(table, depth, guesses);
  }
  for (const Work& work : work_) table.take_back(work.slot, work.wanted);
  return absl::OkStatus();
}

// What their first row does not compute has been computed for others, by both models.
void Drafter::begin_arrivals(const wire::StepInput& step) {
  for (const wire::NewSequence& arrival : step.new_sequences) {
    const uint32_t slot = arrival.slot.value;
    if (slot >= reach_.size()) reach_.resize(slot + 1);
    reach_[slot].count = UINT32_MAX;
    reach_[slot].guessed.clear();
  }
}

// Of the guesses those that were right are known tokens now, and have their KV.
Drafter::Reach& Drafter::find_reach(uint32_t slot, const Sequence& sequence, uint32_t computed) {
  Reach& reach = reach_[slot];
  for (const int32_t token : reach.guessed) {
    if (reach.count >= sequence.tokens.size() || sequence.tokens[reach.count] != token) break;
    ++reach.count;
  }
  reach.guessed.clear();
  reach.count = std::min(reach.count, computed);
  return reach;
}

Status Drafter::plan(const wire::StepInput& step, const SequenceTable& table, bool is_guessing) {
  const uint32_t block_tokens = model_.kv_shape().block_tokens;
  work_.clear();
  uint32_t guesses_begin = 0;
  for (std::size_t row = 0; row < step.row_slot.size(); ++row) {
    const uint32_t slot = step.row_slot[row];
    const Sequence& sequence = table.at(slot);
    const uint32_t wanted = is_guessing ? step.row_draft_count[row] : 0;
    const uint32_t end = step.row_start[row] + step.row_count[row];
    if (wanted > 0 && uint64_t{end} + wanted > tokens_max_) {
      return error(StatusCode::kInternal,
                   "step breaks the protocol: row %u: %u guesses behind token %u, but the draft "
                   "model ends at %u",
                   row, wanted, end, tokens_max_);
    }
    Reach& reach = find_reach(slot, sequence, step.row_start[row]);
    const uint32_t last = std::min(end, tokens_max_);
    const bool fills_block = last / block_tokens > reach.count / block_tokens;
    const bool is_behind = reach.count < last && sequence.sampling.pooling == wire::Pooling::kNone;
    if (is_behind && (wanted > 0 || fills_block)) {
      const bool may_fill_block = wanted > 0 && (last + wanted) % block_tokens == 0;
      const uint32_t forwards = std::max(wanted, 1U) + (may_fill_block ? 1 : 0);
      work_.push_back({slot, wanted, guesses_begin, forwards, reach.count, last});
      reach.count = last;
    }
    guesses_begin += wanted;
  }
  return absl::OkStatus();
}

Status Drafter::run_forward(const SequenceTable& table, uint32_t depth) {
  tokens_.clear();
  positions_.clear();
  rows_.clear();
  logits_tokens_.clear();
  open_.clear();
  for (uint32_t i = 0; i < work_.size(); ++i) {
    Work& work = work_[i];
    if (work.forwards <= depth) continue;
    const Sequence& sequence = table.at(work.slot);
    rows_.push_back({.token_begin = static_cast<uint32_t>(tokens_.size()),
                     .token_count = work.end - work.begin,
                     .start = work.begin,
                     .blocks = sequence.blocks});
    for (uint32_t position = work.begin; position < work.end; ++position) {
      tokens_.push_back(sequence.tokens[position]);
      positions_.push_back(static_cast<int32_t>(position));
    }
    work.begin = work.end++;
    if (work.wanted <= depth) continue;
    open_.push_back(i);
    logits_tokens_.push_back(static_cast<uint32_t>(tokens_.size()) - 1);
  }
  logits_ = logits_buffer_.take(logits_tokens_.size() * model_.vocabulary_size());
  return model_.forward(
      {.tokens = tokens_, .positions = positions_, .rows = rows_, .logits_tokens = logits_tokens_},
      {}, {}, logits_);
}

void Drafter::sample(SequenceTable& table, uint32_t depth, std::span<int32_t> guesses) {
  const uint32_t vocabulary = model_.vocabulary_size();
  samplers_.run(open_.size(), logits_.size(), [&](std::size_t i, Sampler& sampler) {
    const Work& work = work_[open_[i]];
    const Sequence& sequence = table.at(work.slot);
    const SamplingRow row{.logits = logits_.subspan(i * vocabulary, vocabulary),
                          .params = sequence.sampling,
                          .tokens = sequence.tokens,
                          .prompt_count = sequence.prompt_count,
                          .counts = &sequence.counts};
    // Bad logits of this model are a bad guess, nothing more.
    const int32_t token = std::max(sampler.sample(row, nullptr), 0);
    guesses[work.guesses_begin + depth] = token;
    table.append(work.slot, token);
    const bool is_computed = depth + 1 < work.forwards;
    if (is_computed) reach_[work.slot].guessed.push_back(token);
  });
}

}  // namespace trireme::worker
