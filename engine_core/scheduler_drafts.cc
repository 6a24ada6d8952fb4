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
    Request& request = *row.request;
    uint32_t count = drafts_allowed(row);
    if (count == 0) continue;
    const auto at = request.ngrams.find(request.tokens, config_.draft_lookup);
    if (!at) continue;
    count = std::min(count, request.known_count() - *at);
    if (!kv_.grow(request.blocks, row.start + row.count + count)) {
      const auto room = static_cast<uint32_t>(request.blocks.table.size()) * kv_.block_tokens();
      count = std::min(count, room - row.start - row.count);
    }
    row.draft_begin = static_cast<uint32_t>(drafts_.size());
    row.draft_count = count;
    budget_ -= count;
    const auto first = request.tokens.begin() + *at;
    drafts_.insert(drafts_.end(), first, first + count);
  }
}

// The token after the last draft must be one that the request may still have.
uint32_t Scheduler::drafts_allowed(const Row& row) const {
  const Request& request = *row.request;
  const bool is_decode = !row.is_new && row.count == 1 && row.start + 1 == request.known_count();
  const uint32_t output_left = request.sampling.output_tokens_max - request.output_count();
  if (!is_decode || request.sampling.output_tokens_max == 0 || output_left == 0) return 0;
  const uint32_t room = config_.model_tokens_max - request.known_count();
  return std::min({config_.draft_tokens_max, budget_, output_left - 1, room - 1});
}

void Scheduler::put_drafts(const Row& row) {
  input_.row_draft_count.push_back(row.draft_count);
  const auto first = drafts_.begin() + row.draft_begin;
  input_.draft_tokens.insert(input_.draft_tokens.end(), first, first + row.draft_count);
}

Status Scheduler::check_accepted(const wire::StepResult& result, const InFlight& step) const {
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
  ++counters_.drafts;
  counters_.draft_tokens += row.draft_count;
  counters_.accepted_draft_tokens += accepted;
  for (uint32_t i = 0; i < accepted; ++i) ++counters_.accepted_at_position[i];
}

}  // namespace trireme::engine
