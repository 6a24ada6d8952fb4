#include "api_server/engine_client/load_balancer.h"

#include <algorithm>

namespace trireme::api {

LoadBalancer::Entry& LoadBalancer::at(uint32_t rank) {
  if (rank >= entries_.size()) entries_.resize(rank + 1);
  return entries_[rank];
}

void LoadBalancer::reset(uint32_t rank) { at(rank) = Entry{}; }

void LoadBalancer::set_eligible(uint32_t rank, bool is_eligible) {
  at(rank).is_eligible = is_eligible;
}

void LoadBalancer::update(uint32_t rank, const wire::EngineStats& stats, uint64_t received) {
  Entry& entry = at(rank);
  entry.stats = stats;
  // A peer that claims more than we sent must not wrap the difference.
  entry.received = std::min(received, entry.sent);
}

void LoadBalancer::update_from_board(uint32_t rank, const wire::EngineStats& stats) {
  Entry& entry = at(rank);
  if (stats.step > entry.stats.step) entry.stats = stats;
}

uint64_t LoadBalancer::score(uint32_t rank) const {
  const Entry& entry = entries_[rank];
  return 4 * (entry.stats.waiting + (entry.sent - entry.received)) + entry.stats.running;
}

std::optional<uint32_t> LoadBalancer::choose(const std::vector<uint32_t>& excluded) {
  std::optional<uint32_t> best;
  uint64_t best_score = 0;
  const auto count = static_cast<uint32_t>(entries_.size());
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t rank = (next_ + i) % count;
    if (!entries_[rank].is_eligible) continue;
    if (std::find(excluded.begin(), excluded.end(), rank) != excluded.end()) continue;
    const uint64_t candidate = score(rank);
    if (!best || candidate < best_score) {
      best = rank;
      best_score = candidate;
    }
  }
  if (best) next_ = (*best + 1) % count;
  return best;
}

}  // namespace trireme::api
