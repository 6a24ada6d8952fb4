#include "coordinator/cut_judge.h"

#include <algorithm>
#include <tuple>

namespace trireme::coordinator {

void CutJudge::on_report(Instant now, EngineId rank, const std::vector<uint32_t>& awaits) {
  if (awaits.empty()) return forget(rank);
  ended_.erase(rank);
  Wait& wait = waits_[rank];
  wait.heard_at = now;
  wait.awaits.clear();
  for (const uint32_t other : awaits) wait.awaits.insert(EngineId{other});
  drop_pairs_of(rank);
  for (const EngineId other : wait.awaits) note_pair(now, rank, other);
}

void CutJudge::on_end(Instant now, EngineId rank) {
  waits_.erase(rank);
  ended_.insert(rank);
  drop_pairs_of(rank);
  for (const auto& [other, wait] : waits_) note_pair(now, rank, other);
}

void CutJudge::forget(EngineId rank) {
  waits_.erase(rank);
  ended_.erase(rank);
  drop_pairs_of(rank);
}

void CutJudge::forget_all() {
  waits_.clear();
  ended_.clear();
  mutual_.clear();
}

void CutJudge::forget_ends() {
  ended_.clear();
  std::erase_if(mutual_, [&](const auto& entry) {
    return !is_mutual(entry.first.first, entry.first.second);
  });
}

bool CutJudge::is_deaf_to(EngineId rank, EngineId other) const {
  const auto found = waits_.find(rank);
  return found != waits_.end() && found->second.awaits.contains(other);
}

bool CutJudge::is_mutual(EngineId a, EngineId b) const {
  const bool a_waits = is_deaf_to(a, b);
  const bool b_waits = is_deaf_to(b, a);
  return (a_waits && b_waits) || (a_waits && ended_.contains(b)) || (b_waits && ended_.contains(a));
}

void CutJudge::drop_pairs_of(EngineId rank) {
  std::erase_if(mutual_, [&](const auto& entry) {
    const auto& [low, high] = entry.first;
    return (low == rank || high == rank) && !is_mutual(low, high);
  });
}

void CutJudge::note_pair(Instant now, EngineId a, EngineId b) {
  if (a != b && is_mutual(a, b)) mutual_.try_emplace(std::minmax(a, b), now);
}

bool CutJudge::is_fresh(Instant now, EngineId rank) const {
  const auto found = waits_.find(rank);
  return found == waits_.end() || now - found->second.heard_at <= freshness_;
}

// Those that do not count begin anew with the next report.
CutJudge::Cuts CutJudge::take_cuts(Instant now, const Nodes& nodes) {
  Cuts cuts;
  std::erase_if(mutual_, [&](const auto& entry) {
    const auto& [pair, since] = entry;
    if (now - since < kPatience) return false;
    const auto low = nodes.find(pair.first);
    const auto high = nodes.find(pair.second);
    const bool is_between_nodes =
        low != nodes.end() && high != nodes.end() && low->second != high->second;
    if (is_between_nodes && is_fresh(now, pair.first) && is_fresh(now, pair.second)) {
      cuts.try_emplace(std::minmax(low->second, high->second), pair);
    }
    return true;
  });
  return cuts;
}

uint32_t CutJudge::choose(const Cuts& cuts, const Nodes& nodes) const {
  struct Weight {
    int cuts = 0;
    int awaited_by = 0;
    int ranks = 0;
  };
  std::map<uint32_t, Weight> weights;
  for (const auto& [ends, pair] : cuts) {
    ++weights[ends.first].cuts;
    ++weights[ends.second].cuts;
  }
  for (const auto& [rank, node] : nodes) {
    const auto weight = weights.find(node);
    if (weight == weights.end()) continue;
    ++weight->second.ranks;
    for (const auto& [other, wait] : waits_) {
      const auto at = nodes.find(other);
      const bool is_elsewhere = at != nodes.end() && at->second != node;
      if (is_elsewhere && wait.awaits.contains(rank)) ++weight->second.awaited_by;
    }
  }
  const auto order = [](const auto& entry) {
    const auto& [node, weight] = entry;
    return std::tuple(weight.cuts, weight.awaited_by, -weight.ranks, node);
  };
  return std::ranges::max_element(weights, {}, order)->first;
}

std::vector<CutJudge::Verdict> CutJudge::judge(Instant now, const Nodes& nodes) {
  Cuts cuts = take_cuts(now, nodes);
  std::vector<Verdict> verdicts;
  while (!cuts.empty()) {
    const uint32_t out = choose(cuts, nodes);
    const auto is_of_it = [&](const auto& cut) {
      return cut.first.first == out || cut.first.second == out;
    };
    const auto [low, high] = std::ranges::find_if(cuts, is_of_it)->second;
    const EngineId other = nodes.at(low) == out ? high : low;
    for (const auto& [rank, node] : nodes) {
      if (node == out) verdicts.push_back({rank, other, sentence(now, rank)});
    }
    std::erase_if(cuts, is_of_it);
  }
  for (const Verdict& verdict : verdicts) forget(verdict.out);
  return verdicts;
}

Duration CutJudge::sentence(Instant now, EngineId rank) {
  Past& past = past_[rank];
  const bool is_again = past.length > Duration{} && now < past.back_at + kForgetAfter;
  past.length = is_again ? std::min(2 * past.length, kOutMax) : kOutMin;
  past.back_at = now + past.length;
  return past.length;
}

Instant CutJudge::wakeup() const {
  Instant first = Instant::max();
  for (const auto& [pair, since] : mutual_) first = std::min(first, since + kPatience);
  return first;
}

}  // namespace trireme::coordinator
