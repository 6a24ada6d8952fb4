// CpuDevice's mixture of experts: which experts each token goes through, then expert by expert,
// each over the tokens that chose it.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/kernels/cpu/cpu_device.h"

namespace trireme::worker::cpu {
namespace {

// Of one core, roughly; they only decide how the work is cut.
constexpr double kScoreNanoseconds = 10;  // Of one expert of one token.
// Beside a sum of scores it is nothing, but a sum of zeros divides.
constexpr float kLeastTotal = 1e-20F;

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

// The choice of one token. An instance serves many, one after the other.
class Chooser {
 public:
  Chooser(const Routing& routing, const float* bias, uint32_t expert_count)
      : routing_(routing), bias_(bias), count_(expert_count) {}

  void choose(const float* logits, uint32_t* experts, float* weights) {
    score(logits);
    rank();
    if (routing_.group_count > 1) close_groups();
    pick(ranks_, count_, routing_.experts_per_token, experts);
    std::sort(experts, experts + routing_.experts_per_token);
    weigh(experts, weights);
  }

 private:
  void score(const float* logits) {
    if (routing_.score == ExpertScore::kSigmoid) {
      std::transform(logits, logits + count_, scores_, sigmoid);
      return;
    }
    const float largest = *std::max_element(logits, logits + count_);
    float total = 0;
    for (uint32_t i = 0; i < count_; ++i) total += scores_[i] = std::exp(logits[i] - largest);
    for (uint32_t i = 0; i < count_; ++i) scores_[i] /= total;
  }

  // By what experts are compared.
  void rank() {
    for (uint32_t i = 0; i < count_; ++i) {
      const float rank = scores_[i] + (bias_ == nullptr ? 0.0F : bias_[i]);
      // A NaN has no order; the row is lost anyway, for its x is NaN too.
      ranks_[i] = std::isnan(rank) ? -INFINITY : rank;
    }
  }

  // The indices of the largest ones; the lower index wins between equals.
  void pick(const float* values, uint32_t count, uint32_t wanted, uint32_t* out) {
    std::iota(order_, order_ + count, 0U);
    std::partial_sort(order_, order_ + wanted, order_ + count, [values](uint32_t a, uint32_t b) {
      return values[a] > values[b] || (values[a] == values[b] && a < b);
    });
    std::copy_n(order_, wanted, out);
  }

  // Experts of the other groups come after all that can be chosen.
  void close_groups() {
    const uint32_t size = count_ / routing_.group_count;
    float of_groups[kExpertsMax];
    for (uint32_t group = 0; group < routing_.group_count; ++group) {
      float first = -INFINITY;
      float second = -INFINITY;
      for (uint32_t i = group * size; i < (group + 1) * size; ++i) {
        second = std::max(second, std::min(first, ranks_[i]));
        first = std::max(first, ranks_[i]);
      }
      of_groups[group] = routing_.group_score == GroupScore::kTopTwo ? first + second : first;
    }
    uint32_t open[kExpertsMax];
    pick(of_groups, routing_.group_count, routing_.groups_per_token, open);
    for (uint32_t group = 0; group < routing_.group_count; ++group) {
      if (std::find(open, open + routing_.groups_per_token, group) !=
          open + routing_.groups_per_token) {
        continue;
      }
      std::fill_n(ranks_ + group * size, size, -INFINITY);
    }
  }

  void weigh(const uint32_t* experts, float* weights) const {
    float total = 0;
    for (uint32_t i = 0; i < routing_.experts_per_token; ++i) {
      total += weights[i] = scores_[experts[i]];
    }
    const float divisor = routing_.renormalises ? total + kLeastTotal : 1.0F;
    for (uint32_t i = 0; i < routing_.experts_per_token; ++i) {
      weights[i] = weights[i] / divisor * routing_.scale;
    }
  }

  const Routing& routing_;
  const float* bias_;
  const uint32_t count_;
  float scores_[kExpertsMax];
  float ranks_[kExpertsMax];
  uint32_t order_[kExpertsMax];
};

}  // namespace

ExpertChoices CpuDevice::choose_experts(const Routing& routing, const VectorWeight* bias,
                                        const View& router_logits) {
  const uint32_t experts = router_logits.column_count;
  const uint32_t each = routing.experts_per_token;
  TRIREME_CHECK(experts <= kExpertsMax && each <= experts, "models have checked their routing");
  chosen_experts_.resize(std::size_t{router_logits.row_count} * each);
  chosen_weights_.resize(chosen_experts_.size());
  const float* added = bias == nullptr ? nullptr : static_cast<const FloatVector&>(*bias).data();
  for_ranges(
      router_logits.row_count, kScoreNanoseconds * experts, [&](uint32_t begin, uint32_t end) {
        Chooser chooser(routing, added, experts);
        for (uint32_t row = begin; row < end; ++row) {
          const std::size_t at = std::size_t{row} * each;
          chooser.choose(row_of(router_logits, row), &chosen_experts_[at], &chosen_weights_[at]);
        }
      });
  return {each, chosen_experts_, chosen_weights_};
}

void CpuDevice::sort_by_expert(const ExpertChoices& choices, std::size_t expert_count) {
  expert_begins_.assign(expert_count + 2, 0);
  for (const uint32_t expert : choices.experts) ++expert_begins_[expert + 2];
  std::partial_sum(expert_begins_.begin(), expert_begins_.end(), expert_begins_.begin());
  expert_rows_.resize(choices.experts.size());
  expert_weights_.resize(choices.experts.size());
  // Entry e + 1 grows from the begin of expert e to its end.
  for (std::size_t i = 0; i < choices.experts.size(); ++i) {
    const uint32_t at = expert_begins_[choices.experts[i] + 1]++;
    expert_rows_[at] = static_cast<uint32_t>(i / choices.per_token);
    expert_weights_[at] = choices.weights[i];
  }
}

void CpuDevice::run_expert(Activation activation, const ExpertWeights& expert,
                           std::span<const uint32_t> rows, std::span<const float> weights,
                           const View& x, const View& out) {
  const auto row_count = static_cast<uint32_t>(rows.size());
  const View picked = own_scratch(kPickedRows, row_count, x.column_count);
  gather_rows(x, rows, picked);
  const View result = own_scratch(kExpertOut, row_count, out.column_count);
  feed_forward(activation, *expert.gate_up, *expert.down, picked, result);
  for_ranges(row_count, out.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t i = begin; i < end; ++i) {
                 kernels_.add_scaled(row_of(out, rows[i]), row_of(result, i), weights[i],
                                     out.column_count);
               }
             });
}

StatusOr<const ExpertWeights*> CpuDevice::weights_of(const ExpertWeights& expert) {
  if (expert.gate_up != nullptr) return &expert;
  if (told_of_taken_ != exchange_->wave()) {
    told_of_taken_ = exchange_->wave();
    log::info("experts_taken_over",
              {{"wave", wave_number(told_of_taken_)},
               {"reason",
                "of a rank that is away, or placed here by load, and not in this worker's memory: "
                "loaded from the checkpoint as they are needed"}});
  }
  const LifeSigns& life = exchange_->life();
  const WorkerPhase before = life.phase();
  const uint64_t clear_count = taken_.clear_count();
  auto found = taken_.find(
      expert, [this] { return promised_bytes(); },
      [&] { life.turn_aside(WorkerPhase::kLoadingExperts); });
  if (life.phase() != before) life.turn_aside(before);
  if (taken_.clear_count() != clear_count) exchange_->note_loaded_are_gone();
  return found;
}

// It looks at every page, so not for each expert.
uint64_t CpuDevice::promised_bytes() {
  constexpr Duration kLookAgain = std::chrono::seconds(1);
  const Instant at = now();
  if (at >= look_at_promises_) {
    promised_bytes_ = workers_of_node_ * kv_.untouched_bytes();
    look_at_promises_ = at + kLookAgain;
  }
  return promised_bytes_;
}

void CpuDevice::give_back_experts(std::span<const ExpertWeights> layer) {
  if (taken_.empty()) return;
  const auto is_kept = [&](uint32_t expert) {
    const bool keeps = exchange_->has_expert(expert);
    if (!keeps) exchange_->note_in_memory(expert, false);
    return keeps;
  };
  if (taken_.forget_unless(layer, is_kept) && taken_.empty()) log::info("experts_given_back", {});
}

void CpuDevice::fill_with_zeros(const View& out) {
  for_ranges(out.row_count, out.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t row = begin; row < end; ++row) {
                 std::fill_n(row_of(out, row), out.column_count, 0.0F);
               }
             });
}

void CpuDevice::run_experts(Activation activation, std::span<const ExpertWeights> experts,
                            const ExpertChoices& choices, const View& x, const View& out) {
  if (exchange_ != nullptr && exchange_->size() > 1) {
    return run_experts_of_wave(activation, experts, choices, x, out);
  }
  sort_by_expert(choices, experts.size());
  fill_with_zeros(out);
  for (std::size_t expert = 0; expert < experts.size(); ++expert) {
    const uint32_t begin = expert_begins_[expert];
    const uint32_t count = expert_begins_[expert + 1] - begin;
    if (count == 0) continue;
    const auto weights = weights_of(experts[expert]);
    if (!weights.ok()) return keep(weights.status());
    run_expert(activation, **weights, std::span(expert_rows_).subspan(begin, count),
               std::span(expert_weights_).subspan(begin, count), x, out);
  }
}

void CpuDevice::add_gated(const View& x, const View& gate, const View& delta) {
  for_ranges(x.row_count, x.column_count / kElementsPerNanosecond,
             [&](uint32_t begin, uint32_t end) {
               for (uint32_t row = begin; row < end; ++row) {
                 kernels_.add_scaled(row_of(x, row), row_of(delta, row),
                                     sigmoid(*row_of(gate, row)), x.column_count);
               }
             });
}

}  // namespace trireme::worker::cpu
