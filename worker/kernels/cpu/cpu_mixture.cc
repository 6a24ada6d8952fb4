// CpuDevice's mixture of experts: expert by expert, each over the tokens that chose it.
#include <algorithm>
#include <cmath>

#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

const float* row_of(const View& view, uint32_t row) {
  return view.data + static_cast<std::size_t>(row) * view.row_stride;
}

}  // namespace

void CpuDevice::choose_experts(const View& router_logits, uint32_t experts_per_token) {
  choices_.clear();
  std::vector<Choice>& choices = choices_;
  for (uint32_t token = 0; token < router_logits.row_count; ++token) {
    const float* logits = row_of(router_logits, token);
    const auto begin = static_cast<std::ptrdiff_t>(choices.size());
    for (uint32_t expert = 0; expert < router_logits.column_count; ++expert) {
      // A NaN has no order; the row is lost anyway, for its x is NaN too.
      const float logit = logits[expert];
      choices.push_back({expert, std::isnan(logit) ? -INFINITY : logit});
    }
    // The expert's index decides between equal logits.
    const auto is_before = [](const Choice& a, const Choice& b) {
      return a.weight > b.weight || (a.weight == b.weight && a.expert < b.expert);
    };
    std::partial_sort(choices.begin() + begin, choices.begin() + begin + experts_per_token,
                      choices.end(), is_before);
    choices.resize(static_cast<std::size_t>(begin) + experts_per_token);
    const float largest = choices[static_cast<std::size_t>(begin)].weight;
    float total = 0;
    for (auto choice = choices.begin() + begin; choice != choices.end(); ++choice) {
      choice->weight = std::exp(choice->weight - largest);
      total += choice->weight;
    }
    for (auto choice = choices.begin() + begin; choice != choices.end(); ++choice) {
      choice->weight /= total;
    }
  }
}

void CpuDevice::run_expert(const ExpertWeights& expert, const View& x, const View& out) {
  const auto rows = static_cast<uint32_t>(expert_tokens_.size());
  const View picked = own_scratch(kPickedRows, rows, x.column_count);
  gather_rows(x, expert_tokens_, picked);
  const View result = own_scratch(kExpertOut, rows, out.column_count);
  feed_forward(Activation::kSilu, *expert.gate_up, *expert.down, picked, result);
  for (uint32_t i = 0; i < rows; ++i) {
    const float* from = row_of(result, i);
    float* to = out.data + static_cast<std::size_t>(expert_tokens_[i]) * out.row_stride;
    for (uint32_t column = 0; column < out.column_count; ++column) {
      to[column] += expert_shares_[i] * from[column];
    }
  }
}

void CpuDevice::mixture(std::span<const ExpertWeights> experts, const View& router_logits,
                        uint32_t experts_per_token, const View& x, const View& out) {
  choose_experts(router_logits, experts_per_token);
  for (uint32_t row = 0; row < out.row_count; ++row) {
    std::fill_n(out.data + static_cast<std::size_t>(row) * out.row_stride, out.column_count, 0.0F);
  }
  for (uint32_t expert = 0; expert < experts.size(); ++expert) {
    expert_tokens_.clear();
    expert_shares_.clear();
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      if (choices_[i].expert != expert) continue;
      expert_tokens_.push_back(static_cast<uint32_t>(i / experts_per_token));
      expert_shares_.push_back(choices_[i].weight);
    }
    if (!expert_tokens_.empty()) run_expert(experts[expert], x, out);
  }
}

}  // namespace trireme::worker::cpu
