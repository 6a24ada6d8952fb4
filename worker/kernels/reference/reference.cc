#include "worker/kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "worker/kernels/element.h"

namespace trireme::worker::reference {
namespace {

double dot(const float* a, const float* b, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace

std::vector<float> linear(std::span<const float> x, std::span<const float> weight,
                          std::span<const float> bias, uint32_t row_count, uint32_t in_features) {
  const std::size_t out_features = weight.size() / in_features;
  std::vector<float> out(row_count * out_features);
  for (std::size_t row = 0; row < row_count; ++row) {
    for (std::size_t column = 0; column < out_features; ++column) {
      const double sum = dot(&x[row * in_features], &weight[column * in_features], in_features);
      out[row * out_features + column] =
          static_cast<float>(sum + (bias.empty() ? 0.0 : static_cast<double>(bias[column])));
    }
  }
  return out;
}

std::vector<float> rms_norm(std::span<const float> row, std::span<const float> weight,
                            float epsilon) {
  const double mean = dot(row.data(), row.data(), row.size()) / static_cast<double>(row.size());
  const double factor = 1.0 / std::sqrt(mean + static_cast<double>(epsilon));
  std::vector<float> out(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    out[i] = static_cast<float>(row[i] * factor * weight[i]);
  }
  return out;
}

std::vector<float> silu_mul(std::span<const float> gate, std::span<const float> up) {
  std::vector<float> out(gate.size());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const auto value = static_cast<double>(gate[i]);
    out[i] = static_cast<float>(value / (1.0 + std::exp(-value)) * up[i]);
  }
  return out;
}

std::vector<float> rotary(std::span<const float> head, std::span<const float> cosines,
                          std::span<const float> sines) {
  const std::size_t half = cosines.size();
  std::vector<float> out(head.begin(), head.end());
  for (std::size_t i = 0; i < half; ++i) {
    out[i] = head[i] * cosines[i] - head[i + half] * sines[i];
    out[i + half] = head[i + half] * cosines[i] + head[i] * sines[i];
  }
  return out;
}

std::vector<float> latent_attention(std::span<const float> query, std::span<const float> rows,
                                    uint32_t value_size, uint32_t last, float scale) {
  std::vector<float> keys;
  std::vector<float> values;
  for (std::size_t position = 0; position <= last; ++position) {
    const auto row = rows.subspan(position * query.size(), query.size());
    keys.insert(keys.end(), row.begin(), row.end());
    // As wide as the key, so that attention() knows the rows.
    values.insert(values.end(), row.begin(), row.begin() + value_size);
    values.resize(keys.size());
  }
  auto out = attention(query, keys, values, 0, last, scale);
  out.resize(value_size);
  return out;
}

std::vector<ChosenExpert> choose_experts(const Routing& routing, std::span<const float> logits,
                                         std::span<const float> bias) {
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit));
  std::vector<double> scores;
  std::vector<double> ranks;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double exponential = std::exp(static_cast<double>(logits[i]));
    scores.push_back(routing.score == ExpertScore::kSoftmax ? exponential / total
                                                            : exponential / (1 + exponential));
    ranks.push_back(scores[i] + (bias.empty() ? 0.0 : static_cast<double>(bias[i])));
  }
  // Indices in the order of falling values.
  const auto order_of = [](const std::vector<double>& values) {
    std::vector<uint32_t> order(values.size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return values[a] > values[b]; });
    return order;
  };
  const std::size_t group_size = logits.size() / routing.group_count;
  std::vector<double> groups;
  for (uint32_t group = 0; group < routing.group_count; ++group) {
    std::vector<double> members(
        ranks.begin() + static_cast<std::ptrdiff_t>(group * group_size),
        ranks.begin() + static_cast<std::ptrdiff_t>((group + 1) * group_size));
    std::ranges::sort(members, std::greater());
    const bool is_sum = routing.group_score == GroupScore::kTopTwo && group_size > 1;
    groups.push_back(is_sum ? members[0] + members[1] : members[0]);
  }
  auto open = order_of(groups);
  open.resize(routing.groups_per_token);
  std::vector<ChosenExpert> chosen;
  double chosen_total = 0;
  for (const uint32_t expert : order_of(ranks)) {
    if (chosen.size() == routing.experts_per_token) break;
    if (std::ranges::find(open, expert / group_size) == open.end()) continue;
    chosen.push_back({expert, 0});
    chosen_total += scores[expert];
  }
  std::ranges::sort(chosen, {}, &ChosenExpert::expert);
  for (ChosenExpert& choice : chosen) {
    const double share =
        routing.renormalises ? scores[choice.expert] / chosen_total : scores[choice.expert];
    choice.weight = static_cast<float>(share * static_cast<double>(routing.scale));
  }
  return chosen;
}

std::vector<float> attention(std::span<const float> query, std::span<const float> keys,
                             std::span<const float> values, uint32_t first, uint32_t last,
                             float scale) {
  const std::size_t size = query.size();
  std::vector<double> weights;
  for (std::size_t position = first; position <= last; ++position) {
    weights.push_back(dot(query.data(), &keys[position * size], size) * static_cast<double>(scale));
  }
  const double maximum = *std::ranges::max_element(weights);
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - maximum);
  std::vector<float> out(size);
  for (std::size_t i = 0; i < size; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < weights.size(); ++j) {
      sum += weights[j] * static_cast<double>(values[(first + j) * size + i]);
    }
    out[i] = static_cast<float>(sum / total);
  }
  return out;
}

std::vector<float> rounded_to_bfloat16(std::span<const float> values) {
  std::vector<float> out(values.size());
  std::ranges::transform(values, out.begin(), worker::rounded_to_bfloat16);
  return out;
}

}  // namespace trireme::worker::reference
