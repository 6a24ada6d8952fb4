#include "worker/forward_plan.h"

#include <algorithm>

namespace trireme::worker {
namespace {

bool pools(const Sequence& sequence) { return sequence.sampling.pooling != wire::Pooling::kNone; }

}  // namespace

void ForwardPlan::begin(const wire::StepInput& step, std::span<const int32_t> drafts,
                        const SequenceTable& table) {
  step_ = &step;
  drafts_ = drafts;
  table_ = &table;
  row_ = draft_ = 0;
  position_ = step.row_start.empty() ? 0 : step.row_start[0];
  uint32_t sampling_rows = 0;
  for (const uint8_t flags : step.row_flags) {
    if ((flags & wire::kRowSamples) != 0) ++sampling_rows;
  }
  const auto draft_count = static_cast<uint32_t>(drafts.size());
  logits_rows_now_ = std::max(
      {logits_rows_max_, sampling_rows, std::min(sampling_rows + draft_count, kDraftLogitsRows)});
}

bool ForwardPlan::next() {
  tokens_.clear();
  positions_.clear();
  rows_.clear();
  logits_tokens_.clear();
  uses_.clear();
  feature_tokens_.clear();
  pool_uses_.clear();
  while (row_ < step_->row_slot.size()) {
    const Sequence& sequence = table_->at(step_->row_slot[row_]);
    const uint32_t end = step_->row_start[row_] + step_->row_count[row_];
    const bool describes = sequence.sampling.prompt_logprobs >= 0;
    const auto room = logits_rows_now_ - static_cast<uint32_t>(uses_.size());
    const uint32_t wanted = (samples() && !pools(sequence)) || describes ? 1 + draft_count() : 0;
    if (wanted > room && !uses_.empty()) return true;
    // Of a described prompt every position wants a row, so as many positions fit as rows do.
    const bool is_cut =
        describes && position_ + 1 < sequence.prompt_count && end - position_ > room;
    add_piece(sequence, is_cut ? position_ + room : end);
    if (pools(sequence)) add_pooled(sequence);
    if (is_cut) return true;
    add_drafts();
    ++row_;
    if (row_ < step_->row_slot.size()) position_ = step_->row_start[row_];
  }
  return !rows_.empty();
}

void ForwardPlan::add_piece(const Sequence& sequence, uint32_t end) {
  const uint32_t row_end = step_->row_start[row_] + step_->row_count[row_];
  const bool wants_token = samples() && !pools(sequence);
  const bool describes = sequence.sampling.prompt_logprobs >= 0;
  rows_.push_back({.token_begin = static_cast<uint32_t>(tokens_.size()),
                   .token_count = end - position_,
                   .start = position_,
                   .blocks = sequence.blocks});
  for (; position_ < end; ++position_) {
    const bool is_sample = wants_token && position_ + 1 == row_end;
    if (is_sample || (describes && position_ + 1 < sequence.prompt_count)) {
      logits_tokens_.push_back(static_cast<uint32_t>(tokens_.size()));
      uses_.push_back({.row = row_, .position = position_, .samples = is_sample});
    }
    tokens_.push_back(sequence.tokens[position_]);
    positions_.push_back(static_cast<int32_t>(position_));
  }
}

void ForwardPlan::add_pooled(const Sequence& sequence) {
  const ForwardRow& piece = rows_.back();
  const bool begins = piece.start == 0;
  const bool ends = samples();
  uint32_t first = piece.token_begin;
  uint32_t count = 0;
  switch (sequence.sampling.pooling) {
    case wire::Pooling::kMean:
      count = piece.token_count;
      break;
    case wire::Pooling::kCls:
      count = begins ? 1 : 0;
      break;
    default:
      first += piece.token_count - 1;
      count = ends ? 1 : 0;
  }
  pool_uses_.push_back({.row = row_,
                        .feature_begin = static_cast<uint32_t>(feature_tokens_.size()),
                        .feature_count = count,
                        .begins = begins,
                        .ends = ends});
  for (uint32_t i = 0; i < count; ++i) feature_tokens_.push_back(first + i);
}

void ForwardPlan::add_drafts() {
  const uint32_t count = draft_count();
  rows_.back().token_count += count;
  for (uint32_t i = 0; i < count; ++i, ++position_, ++draft_) {
    uses_.back().draft = drafts_[draft_];
    logits_tokens_.push_back(static_cast<uint32_t>(tokens_.size()));
    uses_.push_back({.row = row_, .position = position_, .samples = true});
    tokens_.push_back(drafts_[draft_]);
    positions_.push_back(static_cast<int32_t>(position_));
  }
}

}  // namespace trireme::worker
