// Speculative decoding: see scheduler.h.
#include <algorithm>

#include "engine_core/scheduler.h"

namespace trireme::engine {

// A step made ahead could have no drafts, and would part the decodes into two halves for ever.
bool Scheduler::must_wait_for_tokens() const {
  return config_.draft_tokens_max > 0 && config_.pipeline_stages == 1 && in_flight_count_ > 0;
}

void Scheduler::add_drafts() {
  if (config_.draft_tokens_max == 0) return;
  for (Row& row : rows_) {
    if (budget_ == 0) return;
    uint32_t count = drafts_allowed(row);
    if (count > 0) count = row.request->guesses.next(count);
    if (count > 0 && !has_draft_model()) count = look_up_drafts(row, count);
    if (count > 0) count = fit_drafts(row, count);
    row.draft_count = count;
    draft_count_ += count;
    budget_ -= count;
  }
}

// How many there are; those that find no room stay unused behind the others.
uint32_t Scheduler::look_up_drafts(Row& row, uint32_t count_max) {
  Request& request = *row.request;
  const auto at = request.ngrams.find(request.tokens, config_.draft_lookup);
  if (!at) return 0;
  const uint32_t count = std::min(count_max, request.known_count() - *at);
  row.draft_begin = static_cast<uint32_t>(drafts_.size());
  const auto first = request.tokens.begin() + *at;
  drafts_.insert(drafts_.end(), first, first + count);
  return count;
}

uint32_t Scheduler::fit_drafts(Row& row, uint32_t count) {
  SequenceBlocks& blocks = row.request->blocks;
  if (kv_.grow(blocks, row.start + row.count + count)) return count;
  const auto room = static_cast<uint32_t>(blocks.table.size()) * kv_.block_tokens();
  return std::min(count, room - row.start - row.count);
}

// The token after the last draft must be one that the request may still have.
uint32_t Scheduler::drafts_allowed(const Row& row) const {
  const Request& request = *row.request;
  const bool is_decode = !row.is_new && row.count == 1 && row.start + 1 == request.known_count();
  const uint32_t output_left = request.sampling.output_tokens_max - request.output_count();
  if (!is_decode || request.sampling.output_tokens_max == 0 || output_left == 0) return 0;
  const uint32_t room = config_.model_tokens_max - request.known_count();
  const uint32_t most = std::min({config_.draft_tokens_max, budget_, output_left - 1, room - 1});
  if (!has_draft_model()) return most;
  const uint32_t model_room = config_.draft_model_tokens_max -
                              std::min(config_.draft_model_tokens_max, request.known_count());
  return std::min(most, model_room);
}

void Scheduler::put_drafts(const Row& row) {
  input_.row_draft_count.push_back(row.draft_count);
  if (has_draft_model()) return;
  const auto first = drafts_.begin() + row.draft_begin;
  input_.draft_tokens.insert(input_.draft_tokens.end(), first, first + row.draft_count);
}

Status Scheduler::check_accepted(const wire::StepResult& result, const InFlight& step) const {
  uint64_t accepted = 0;
  for (const uint32_t count : result.row_accepted) accepted += count;
  if (has_draft_model() && accepted != result.accepted_tokens.size()) {
    return error(StatusCode::kDataLoss, "result of step %u accepts %u drafts and names %u",
                 result.step.value, accepted, result.accepted_tokens.size());
  }
  if (result.row_accepted.empty()) return absl::OkStatus();
  if (result.row_accepted.size() != step.rows.size()) {
    return error(StatusCode::kDataLoss, "result of step %u accepts drafts of %u rows, it had %u",
                 result.step.value, result.row_accepted.size(), step.rows.size());
  }
  for (std::size_t i = 0; i < step.rows.size(); ++i) {
    if (result.row_accepted[i] > step.rows[i].draft_count) {
      return error(StatusCode::kDataLoss, "result of step %u accepts %u of %u drafts of row %u",
                   result.step.value, result.row_accepted[i], step.rows[i].draft_count, i);
    }
  }
  return absl::OkStatus();
}

void Scheduler::count_drafts(const Row& row, uint32_t accepted) {
  if (row.draft_count == 0) return;
  row.request->guesses.take(row.draft_count, accepted);
  ++counters_.drafts;
  counters_.draft_tokens += row.draft_count;
  counters_.accepted_draft_tokens += accepted;
  for (uint32_t i = 0; i < accepted; ++i) ++counters_.accepted_at_position[i];
}

}  // namespace trireme::engine
