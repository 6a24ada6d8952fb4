#include "worker/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/random.h"
#include "worker/logit_rules.h"

namespace trireme::worker {
namespace {

constexpr float kGreedyBelow = 1e-5F;
constexpr float kTemperatureMin = 0.01F;

constexpr std::size_t kSortMax = 256;
// Of weights in [0, 1] by sign, exponent and 7 bits of the mantissa: their order, coarsely.
constexpr uint32_t bucket_of(float weight) { return std::bit_cast<uint32_t>(weight) >> 16; }
constexpr uint32_t kBucketCount = bucket_of(1.0F) + 1;

double sum_of(std::span<const Candidate> candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += static_cast<double>(candidate.value);
  return sum;
}

// Rounding may leave the running sum a hair below the target: then the last one that can be drawn.
int32_t pick(std::span<const Candidate> weights, double target) {
  int32_t last = wire::kBadLogits;
  double sum = 0;
  for (const Candidate& candidate : weights) {
    if (candidate.value <= 0) continue;
    sum += static_cast<double>(candidate.value);
    last = candidate.id;
    if (sum > target) return last;
  }
  return last;
}

}  // namespace

double uniform_at(uint64_t seed, uint64_t position) {
  constexpr uint64_t kGamma = 0x9E3779B97F4A7C15ULL;
  const uint64_t bits = mix64(mix64(seed) + position * kGamma);
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1.0p-52;
}

bool needs_token_counts(const wire::SamplingParams& params) {
  return params.repetition_penalty != 1.0F || params.frequency_penalty != 0 ||
         params.presence_penalty != 0;
}

int32_t Sampler::sample(const SamplingRow& row, wire::TokenLogprobs* logprobs) {
  TRIREME_CHECK(row.counts != nullptr || !needs_token_counts(row.params),
                "who keeps the sequence counts its tokens when penalties need them");
  const Peak raw_peak = find_peak(row.logits);
  if (!raw_peak.is_usable()) return wire::kBadLogits;
  const bool is_described = logprobs != nullptr && row.params.logprobs >= 0;
  const RuleContext context{row.params, row.tokens.subspan(row.prompt_count),
                            needs_token_counts(row.params) ? row.counts : nullptr};
  Peak peak = raw_peak;
  std::span<const float> raw = row.logits;
  if (has_rules(context)) {
    if (is_described) {
      raw_.assign(row.logits.begin(), row.logits.end());
      raw = raw_;
    }
    apply_rules(context, row.logits, weights_);
    peak = find_peak(row.logits);
    if (!peak.is_usable()) return wire::kBadLogits;
  }
  const int32_t token = row.params.temperature < kGreedyBelow ? peak.id : draw(row, peak);
  if (is_described && token >= 0) {
    fill_logprobs(raw, raw_peak, token, row.params.logprobs, *logprobs);
  }
  return token;
}

bool Sampler::describe(std::span<const float> logits, int32_t token, int32_t top_count,
                       wire::TokenLogprobs& out) {
  const Peak peak = find_peak(logits);
  if (!peak.is_usable() || token < 0 || static_cast<std::size_t>(token) >= logits.size()) {
    return false;
  }
  fill_logprobs(logits, peak, token, top_count, out);
  return true;
}

int32_t Sampler::draw(const SamplingRow& row, const Peak& peak) {
  const wire::SamplingParams& params = row.params;
  const float temperature = std::max(params.temperature, kTemperatureMin);
  const float scale = 1 / temperature;
  const double u = uniform_at(params.seed, row.tokens.size());
  const bool has_top_k =
      params.top_k > 0 && static_cast<std::size_t>(params.top_k) < row.logits.size();
  const bool has_min_p = params.min_p > 0;
  const bool has_top_p = params.top_p < 1;
  if (!has_top_k && !has_min_p && !has_top_p) return draw_any(row.logits, peak, scale, u);

  candidates_.clear();
  if (has_top_k || has_min_p) {
    float threshold = -std::numeric_limits<float>::infinity();
    if (has_top_k) {
      find_largest(row.logits, static_cast<std::size_t>(params.top_k), selection_);
      threshold = selection_.back().value;
    }
    if (has_min_p) {
      threshold =
          std::max(threshold, peak.value + temperature * std::log(std::min(params.min_p, 1.0F)));
    }
    collect_at_least(row.logits, threshold, candidates_);
    for (Candidate& candidate : candidates_) {
      candidate.value = exp_negative((candidate.value - peak.value) * scale);
    }
    if (has_top_p) cut_to_mass(static_cast<double>(params.top_p) * sum_of(candidates_));
  } else {
    collect_top_p(row.logits, peak, scale, params.top_p);
  }
  return pick(candidates_, u * sum_of(candidates_));
}

// No filter: only the sums of the blocks are kept, and the weights of the chosen block made again.
int32_t Sampler::draw_any(std::span<const float> logits, const Peak& peak, float scale, double u) {
  block_sums_.resize((logits.size() + kScanBlock - 1) / kScanBlock);
  double target = u * exp_sum(logits, peak.value, scale, block_sums_);
  std::size_t chosen = 0;
  for (std::size_t block = 0; block < block_sums_.size(); ++block) {
    if (block_sums_[block] <= 0) continue;
    chosen = block;
    if (block_sums_[block] > target) break;
    target -= block_sums_[block];
  }
  candidates_.clear();
  const std::size_t begin = chosen * kScanBlock;
  const std::span<const float> block =
      logits.subspan(begin, std::min(kScanBlock, logits.size() - begin));
  weights_.resize(block.size());
  exp_weights(block, peak.value, scale, weights_);
  for (std::size_t i = 0; i < block.size(); ++i) {
    candidates_.push_back({weights_[i], static_cast<int32_t>(begin + i)});
  }
  return pick(candidates_, target);
}

// The most likely tokens come in by falling thresholds until they hold the mass: in nearly every
// row the first one or two suffice, and only those few tokens are ever put in order.
void Sampler::collect_top_p(std::span<const float> logits, const Peak& peak, float scale,
                            float top_p) {
  constexpr float kFirst = 1.0F / 64;
  constexpr float kFall = 1.0F / 64;
  weights_.resize(logits.size());
  const double mass = static_cast<double>(top_p) * exp_weights(logits, peak.value, scale, weights_);
  for (float threshold = kFirst;; threshold *= kFall) {
    const bool is_last = threshold < std::numeric_limits<float>::min();
    candidates_.clear();
    collect_at_least(weights_, is_last ? 0 : threshold, candidates_);
    if (is_last || sum_of(candidates_) >= mass) break;
  }
  cut_to_mass(mass);
}

// Keeps the first candidates (in Candidate's order) whose sum reaches `mass`, by rising id as they
// came. Many are first put into buckets by the upper bits of their weight: then only the bucket in
// which the sum passes `mass` needs an order.
void Sampler::cut_to_mass(double mass) {
  double sum = 0;
  if (candidates_.size() > kSortMax) {
    sum = select_bucket(mass);
    if (selection_.empty()) return;
  } else {
    selection_ = candidates_;
  }
  auto low = selection_.begin();
  auto high = selection_.end();
  while (high - low > static_cast<std::ptrdiff_t>(kSortMax)) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high);
    const double part = sum_of({low, middle});
    if (sum + part >= mass) {
      high = middle;
    } else {
      sum += part;
      low = middle;
    }
  }
  std::sort(low, high);
  Candidate last = *low;
  for (; low != high; ++low) {
    last = *low;
    sum += static_cast<double>(low->value);
    if (sum >= mass) break;
  }
  std::erase_if(candidates_, [&](const Candidate& candidate) { return last < candidate; });
}

// Into selection_ those of the bucket in which the sum passes `mass`; gives the sum above it.
double Sampler::select_bucket(double mass) {
  bucket_sums_.assign(kBucketCount, 0);
  for (const Candidate& candidate : candidates_) {
    bucket_sums_[bucket_of(candidate.value)] += static_cast<double>(candidate.value);
  }
  double sum = 0;
  uint32_t bucket = kBucketCount - 1;
  while (bucket > 0 && sum + bucket_sums_[bucket] < mass) sum += bucket_sums_[bucket--];
  selection_.clear();
  for (const Candidate& candidate : candidates_) {
    if (bucket_of(candidate.value) == bucket) selection_.push_back(candidate);
  }
  return sum;
}

void Sampler::fill_logprobs(std::span<const float> raw, const Peak& peak, int32_t token,
                            int32_t top_count, wire::TokenLogprobs& out) {
  const double log_sum = std::log(exp_sum(raw, peak.value, 1, {}));
  const auto logprob_of = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(peak.value) -
                              log_sum);
  };
  const float logit = raw[static_cast<std::size_t>(token)];
  out.token_ids.assign(1, token);
  out.logprobs.assign(1, logprob_of(logit));
  out.rank = static_cast<int32_t>(count_above(raw, logit)) + 1;
  if (top_count <= 0) return;
  find_largest(raw, std::min(static_cast<std::size_t>(top_count), raw.size()), selection_);
  for (const Candidate& candidate : selection_) {
    out.token_ids.push_back(candidate.id);
    out.logprobs.push_back(logprob_of(candidate.value));
  }
}

}  // namespace trireme::worker
