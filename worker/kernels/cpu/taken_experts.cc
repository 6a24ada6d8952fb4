#include "worker/kernels/cpu/taken_experts.h"

#include <utility>

#include "worker/kernels/cpu/host_memory.h"

namespace trireme::worker::cpu {

StatusOr<const ExpertWeights*> TakenExperts::find(const ExpertWeights& elsewhere,
                                                  const std::function<uint64_t()>& reserve,
                                                  const OnPiece& on_piece) {
  const auto known = taken_.find(&elsewhere);
  if (known != taken_.end()) return &known->second;
  passing_.reset();
  on_piece();
  auto loaded = elsewhere.load(on_piece);
  if (loaded.status().code() == StatusCode::kResourceExhausted && !taken_.empty()) {
    taken_.clear();
    ++clear_count_;
    loaded = elsewhere.load(on_piece);
  }
  if (!loaded.ok()) return loaded.status();
  if (available_bytes() < reserve()) return &passing_.emplace(*std::move(loaded));
  return &taken_.emplace(&elsewhere, *std::move(loaded)).first->second;
}

}  // namespace trireme::worker::cpu
