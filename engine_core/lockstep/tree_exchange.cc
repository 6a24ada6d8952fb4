#include "engine_core/lockstep/tree_exchange.h"

#include <algorithm>
#include <utility>

namespace trireme::engine {

void TreeExchange::enter(const wire::StartWave& start) {
  start_ = start;
  if (tree_) tree_before_ = std::exchange(tree_, std::nullopt);
  posted_ = told_ = 0;
  own_ranks_ = start.ranks;
  if (start.nodes.empty()) return;
  const auto own = std::ranges::find(start.ranks, rank_) - start.ranks.begin();
  const uint32_t own_node = start.nodes[own];
  own_ranks_.clear();
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < start.ranks.size(); ++i) {
    if (start.nodes[i] == own_node) own_ranks_.push_back(start.ranks[i]);
    if (start.nodes[i] < addresses.size()) continue;
    addresses.push_back(start.addresses[i].empty() ? "" : start.addresses[i].front());
  }
  if (own_ranks_.front() != rank_) return;
  tree_.emplace(start.wave, own_node, static_cast<uint32_t>(addresses.size()));
  carrier_.begin_wave(start.wave, own_node, std::move(addresses));
  for (const auto& [node, message] : std::exchange(early_, {})) {
    if (message.wave == start.wave) take(*tree_, message);
  }
}

void TreeExchange::post(const StepRecord& record, std::span<const uint32_t>) {
  board_->post(record, own_ranks_);
}

std::optional<StepSummary> TreeExchange::gather(WaveId wave, uint64_t step,
                                                std::span<const uint32_t>) {
  if (start_.nodes.empty()) return board_->gather(wave, step, own_ranks_);
  if (!tree_) return board_->result(wave, step);
  if (posted_ < step) {
    const auto own = board_->gather(wave, step, own_ranks_);
    if (!own) return std::nullopt;
    posted_ = step;
    tree_->post(step, *own);
  }
  pass_on(step);
  return tree_->result(step);
}

void TreeExchange::pass_on(uint64_t step) {
  send_all(*tree_);
  const auto all = tree_->result(step);
  if (!all || told_ >= step) return;
  told_ = step;
  board_->post_result(start_.wave, step, *all, own_ranks_);
}

void TreeExchange::send_all(StepTree& tree) {
  for (const StepTree::Send& send : tree.take_sends()) {
    const StepSummary& all = send.message.summary;
    carrier_.send(send.node, {.wave = send.message.wave,
                              .step = send.message.step,
                              .from_node = tree.node(),
                              .is_down = send.message.is_down,
                              .has_work = all.has_work,
                              .next_low = all.next_low,
                              .next_high = all.next_high,
                              .pause_sequence = all.pause.sequence,
                              .pause_mode = static_cast<uint8_t>(all.pause.mode)});
  }
}

void TreeExchange::hear(const wire::StepAgreement& message) {
  if (message.wave > start_.wave) {
    if (early_.size() < kEarlyMax) early_[message.from_node] = message;
  } else if (message.wave == start_.wave) {
    if (tree_) take(*tree_, message);
  } else if (tree_before_) {
    take(*tree_before_, message);
  }
}

void TreeExchange::take(StepTree& tree, const wire::StepAgreement& message) {
  const PauseWish pause{.sequence = message.pause_sequence,
                        .mode = static_cast<PauseMode>(message.pause_mode)};
  tree.on_message(message.from_node, {.wave = message.wave,
                                      .step = message.step,
                                      .is_down = message.is_down,
                                      .summary = {.has_work = message.has_work,
                                                  .next_low = message.next_low,
                                                  .next_high = message.next_high,
                                                  .pause = pause}});
  send_all(tree);
  if (tree_ && posted_ > 0) pass_on(posted_);
}

std::vector<uint32_t> TreeExchange::missing(WaveId wave, uint64_t step, std::span<const uint32_t>) {
  std::vector<uint32_t> ranks = board_->missing(wave, step, own_ranks_);
  if (!ranks.empty() || start_.nodes.empty()) return ranks;
  if (!tree_) return {own_ranks_.front()};
  const std::vector<uint32_t> nodes = tree_->awaited();
  for (std::size_t i = 0; i < start_.ranks.size(); ++i) {
    const bool is_awaited = std::ranges::find(nodes, start_.nodes[i]) != nodes.end();
    if (is_awaited) ranks.push_back(start_.ranks[i]);
  }
  return ranks;
}

void TreeExchange::repeat() {
  if (!tree_) return;
  tree_->repeat();
  send_all(*tree_);
}

}  // namespace trireme::engine
