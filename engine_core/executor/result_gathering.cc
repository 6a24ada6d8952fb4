#include "engine_core/executor/result_gathering.h"

#include <algorithm>
#include <utility>

namespace trireme::engine {

StatusOr<std::optional<wire::StepResult>> ResultGathering::take(uint32_t rank,
                                                                wire::StepResult result) {
  const std::size_t index = answered_[rank]++;
  if (index == kOpenMax) {
    return error(StatusCode::kDataLoss, "worker rank %u answers more steps than there were", rank);
  }
  if (index == open_.size()) open_.push_back({.step = result.step});
  Open& open = open_[index];
  if (open.step != result.step) {
    return error(StatusCode::kDataLoss, "worker rank %u answers step %u where the others had %u",
                 rank, result.step.value, open.step.value);
  }
  open.lost_slots.insert(open.lost_slots.end(), result.lost_slots.begin(), result.lost_slots.end());
  open.failed_load_count += result.failed_load_count;
  if (rank == output_rank_) open.whole = std::move(result);
  // Those after it cannot be whole: this worker has not answered them yet.
  if (++open.parts < answered_.size()) return std::nullopt;
  std::sort(open.lost_slots.begin(), open.lost_slots.end());
  const auto end = std::unique(open.lost_slots.begin(), open.lost_slots.end());
  open.lost_slots.erase(end, open.lost_slots.end());
  wire::StepResult whole = std::move(open.whole);
  whole.lost_slots = std::move(open.lost_slots);
  whole.failed_load_count = open.failed_load_count;
  open_.pop_front();
  for (std::size_t& count : answered_) --count;
  return whole;
}

}  // namespace trireme::engine
