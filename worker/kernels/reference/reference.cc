#include "worker/kernels/reference/reference.h"

#include <algorithm>
#include <cmath>

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
