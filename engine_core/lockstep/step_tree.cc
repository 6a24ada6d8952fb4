#include "engine_core/lockstep/step_tree.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace trireme::engine {

void StepTree::TwoSteps::put(uint64_t step, const StepSummary& summary) {
  Entry& entry = entries_[step % 2];
  if (step > entry.step) entry = {step, summary};
}

std::optional<StepSummary> StepTree::TwoSteps::at(uint64_t step) const {
  const Entry& entry = entries_[step % 2];
  if (step == 0 || entry.step != step) return std::nullopt;
  return entry.summary;
}

StepTree::StepTree(WaveId wave, uint32_t node, uint32_t node_count)
    : wave_(wave), node_(node), first_child_(node * kFanOut + 1) {
  TRIREME_CHECK(node < node_count, "a node of the wave");
  if (first_child_ < node_count) {
    children_.resize(std::min(kFanOut, node_count - first_child_));
  }
}

void StepTree::post(uint64_t step, const StepSummary& own) {
  TRIREME_CHECK(step > step_, "steps come in order");
  step_ = step;
  own_.put(step, own);
  advance(step);
}

std::optional<StepSummary> StepTree::subtree(uint64_t step) const {
  std::optional<StepSummary> all = own_.at(step);
  for (std::size_t i = 0; all && i < children_.size(); ++i) {
    const auto child = children_[i].at(step);
    all = child ? std::optional(combine(*all, *child)) : std::nullopt;
  }
  return all;
}

void StepTree::advance(uint64_t step) {
  const auto all = subtree(step);
  if (!all || results_.at(step)) return;
  if (!is_root()) return send(parent_of(node_), step, /*is_down=*/false, *all);
  results_.put(step, *all);
  tell_children(step, *all);
}

void StepTree::tell_children(uint64_t step, const StepSummary& all) {
  for (uint32_t i = 0; i < children_.size(); ++i) send(first_child_ + i, step, true, all);
}

void StepTree::on_message(uint32_t from, const TreeMessage& message) {
  if (message.wave != wave_) return;
  const uint64_t step = message.step;
  if (message.is_down) {
    // Its own part is in the result, or the result is of somebody else's making.
    if (is_root() || from != parent_of(node_) || step > step_ || results_.at(step)) return;
    results_.put(step, message.summary);
    return tell_children(step, message.summary);
  }
  if (from < first_child_ || from - first_child_ >= children_.size()) return;
  if (const auto all = results_.at(step)) return send(from, step, /*is_down=*/true, *all);
  children_[from - first_child_].put(step, message.summary);
  advance(step);
}

void StepTree::repeat() {
  if (step_ == 0 || results_.at(step_)) return;
  if (!is_root()) {
    if (const auto all = subtree(step_)) send(parent_of(node_), step_, false, *all);
  }
  // A child that is a step behind waits for the result that we have.
  const auto before = results_.at(step_ - 1);
  for (uint32_t i = 0; before && i < children_.size(); ++i) {
    if (!children_[i].at(step_)) send(first_child_ + i, step_ - 1, true, *before);
  }
}

std::optional<StepSummary> StepTree::result(uint64_t step) const { return results_.at(step); }

std::vector<uint32_t> StepTree::awaited() const {
  std::vector<uint32_t> nodes;
  if (step_ == 0 || results_.at(step_)) return nodes;
  for (uint32_t i = 0; i < children_.size(); ++i) {
    if (!children_[i].at(step_)) nodes.push_back(first_child_ + i);
  }
  if (nodes.empty() && !is_root()) nodes.push_back(parent_of(node_));
  return nodes;
}

void StepTree::send(uint32_t node, uint64_t step, bool is_down, const StepSummary& summary) {
  sends_.push_back({node, {wave_, step, is_down, summary}});
}

std::vector<StepTree::Send> StepTree::take_sends() { return std::exchange(sends_, {}); }

}  // namespace trireme::engine
