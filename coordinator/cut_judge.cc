#include "coordinator/cut_judge.h"

#include <algorithm>
#include <functional>
#include <tuple>

namespace trireme::coordinator {

void CutJudge::look(Instant now) {
  const bool stood_still = !circles_.empty() && now - looked_at_ > kGapMax;
  looked_at_ = now;
  if (!stood_still) return;
  waits_.clear();
  circles_.clear();
}

void CutJudge::on_report(Instant now, EngineId rank, WaveId wave,
                         const std::vector<uint32_t>& awaits) {
  look(now);
  places_[rank] = {wave, false};
  if (awaits.empty()) {
    waits_.erase(rank);
    return find_circles(now);
  }
  Wait& wait = waits_[rank];
  wait.wave = wave;
  wait.heard_at = now;
  wait.awaits.clear();
  for (const uint32_t other : awaits) wait.awaits.insert(EngineId{other});
  find_circles(now);
}

void CutJudge::on_end(Instant now, EngineId rank, WaveId wave) {
  look(now);
  waits_.erase(rank);
  places_[rank] = {wave, true};
  find_circles(now);
}

void CutJudge::forget(EngineId rank) {
  waits_.erase(rank);
  places_.erase(rank);
  // Fewer waits close no circle, so it does not matter when.
  find_circles({});
}

void CutJudge::forget_all() {
  waits_.clear();
  places_.clear();
  circles_.clear();
}

bool CutJudge::is_past(EngineId rank, WaveId wave) const {
  const auto place = places_.find(rank);
  return place != places_.end() && place->second >= Place{wave, true};
}

void CutJudge::find_circles(Instant now) {
  std::set<Edge> waits;
  for (const auto& [rank, wait] : waits_) {
    for (const EngineId other : wait.awaits) {
      if (other != rank) waits.insert({rank, other});
    }
  }
  const std::set<Edge> found = in_circles(waits);
  std::erase_if(circles_, [&](const auto& entry) { return !found.contains(entry.first); });
  for (const Edge& wait : found) circles_.try_emplace(wait, now);
}

// Those between ranks of one strongly connected component (Tarjan, Depth-first search and linear
// graph algorithms, 1972). Who is past a wave waits for those that wait there for its last word.
std::set<CutJudge::Edge> CutJudge::in_circles(const std::set<Edge>& waits) const {
  std::map<EngineId, std::vector<EngineId>> next;
  for (const auto& [rank, other] : waits) {
    next[rank].push_back(other);
    if (is_past(other, waits_.at(rank).wave)) next[other].push_back(rank);
  }
  struct Visit {
    uint32_t number = 0;
    uint32_t low = 0;
    uint32_t component = 0;  // 0: not known yet.
  };
  std::map<EngineId, Visit> visits;
  std::vector<EngineId> open;
  uint32_t numbers = 0;
  uint32_t components = 0;
  const std::function<void(EngineId)> visit = [&](EngineId rank) {
    Visit& own = visits[rank];
    own.number = own.low = ++numbers;
    open.push_back(rank);
    for (const EngineId other : next[rank]) {
      const Visit& seen = visits[other];
      if (seen.number == 0) {
        visit(other);
        own.low = std::min(own.low, seen.low);
      } else if (seen.component == 0) {
        own.low = std::min(own.low, seen.number);
      }
    }
    if (own.low != own.number) return;
    ++components;
    while (own.component == 0) {
      visits[open.back()].component = components;
      open.pop_back();
    }
  };
  for (const auto& [rank, other] : waits) {
    if (visits[rank].number == 0) visit(rank);
  }
  std::set<Edge> found;
  for (const auto& [rank, other] : waits) {
    if (visits[rank].component == visits[other].component) found.insert({rank, other});
  }
  return found;
}

bool CutJudge::has_said_again(EngineId rank, Instant since) const {
  const auto found = waits_.find(rank);
  return found == waits_.end() || found->second.heard_at > since;
}

// Those that do not count begin anew with the next report.
CutJudge::Cuts CutJudge::take_cuts(Instant now, const Nodes& nodes) {
  std::set<Edge> ripe;
  std::erase_if(circles_, [&](const auto& entry) {
    const auto& [wait, since] = entry;
    if (now - since < patience_) return false;
    const bool counts = nodes.contains(wait.first) && nodes.contains(wait.second) &&
                        has_said_again(wait.first, since) && has_said_again(wait.second, since);
    if (counts) ripe.insert(wait);
    return true;
  });
  Cuts cuts;
  for (const Edge& wait : in_circles(ripe)) {
    const uint32_t a = nodes.at(wait.first);
    const uint32_t b = nodes.at(wait.second);
    if (a != b) cuts.try_emplace(std::minmax(a, b), wait);
  }
  return cuts;
}

uint32_t CutJudge::choose(const Cuts& cuts, const Nodes& nodes) {
  struct Weight {
    int cuts = 0;
    int ranks = 0;
  };
  std::map<uint32_t, Weight> weights;
  for (const auto& [ends, wait] : cuts) {
    ++weights[ends.first].cuts;
    ++weights[ends.second].cuts;
  }
  for (const auto& [rank, node] : nodes) {
    const auto weight = weights.find(node);
    if (weight != weights.end()) ++weight->second.ranks;
  }
  const auto order = [](const auto& entry) {
    const auto& [node, weight] = entry;
    return std::tuple(weight.cuts, -weight.ranks, node);
  };
  return std::ranges::max_element(weights, {}, order)->first;
}

std::vector<CutJudge::Verdict> CutJudge::judge(Instant now, const Nodes& nodes) {
  look(now);
  Cuts cuts = take_cuts(now, nodes);
  std::vector<Verdict> verdicts;
  while (!cuts.empty()) {
    const uint32_t out = choose(cuts, nodes);
    const auto is_of_it = [&](const auto& cut) {
      return cut.first.first == out || cut.first.second == out;
    };
    const auto [rank_a, rank_b] = std::ranges::find_if(cuts, is_of_it)->second;
    const EngineId other = nodes.at(rank_a) == out ? rank_b : rank_a;
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
  Instant first = circles_.empty() ? Instant::max() : looked_at_ + kLook;
  for (const auto& [wait, since] : circles_) first = std::min(first, since + patience_);
  return first;
}

}  // namespace trireme::coordinator
