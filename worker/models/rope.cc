#include "worker/models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trireme::worker {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// As transformers: powers in fp32, from fp32 exponents.
std::vector<float> plain_frequencies(double theta, uint32_t size) {
  std::vector<float> frequencies(size / 2);
  for (uint32_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = static_cast<float>(1.0 / std::pow(theta, 2.0 * i / size));
  }
  return frequencies;
}

void scale_llama3(const RopeScaling& scaling, std::vector<float>& frequencies) {
  const double original = scaling.original_positions_max;
  const double low_wavelength = original / scaling.low_freq_factor;
  const double high_wavelength = original / scaling.high_freq_factor;
  for (float& frequency : frequencies) {
    const double wavelength = kTurn / static_cast<double>(frequency);
    if (wavelength < high_wavelength) continue;
    const double scaled = static_cast<double>(frequency) / scaling.factor;
    if (wavelength > low_wavelength) {
      frequency = static_cast<float>(scaled);
      continue;
    }
    const double smooth = (original / wavelength - scaling.low_freq_factor) /
                          (scaling.high_freq_factor - scaling.low_freq_factor);
    frequency = static_cast<float>((1 - smooth) * scaled + smooth * static_cast<double>(frequency));
  }
}

// The pair that turns `rotations` times over the original context.
double yarn_pair(double rotations, uint32_t size, double theta, double positions) {
  return size * std::log(positions / (rotations * kTurn)) / (2 * std::log(theta));
}

void scale_yarn(const RopeScaling& scaling, double theta, double positions, uint32_t size,
                std::vector<float>& frequencies) {
  double low = yarn_pair(scaling.beta_fast, size, theta, positions);
  double high = yarn_pair(scaling.beta_slow, size, theta, positions);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, size - 1.0);
  if (low == high) high += 0.001;
  for (uint32_t i = 0; i < frequencies.size(); ++i) {
    const double interpolated = std::clamp((i - low) / (high - low), 0.0, 1.0);
    const double frequency = static_cast<double>(frequencies[i]);
    frequencies[i] = static_cast<float>(frequency / scaling.factor * interpolated +
                                        frequency * (1 - interpolated));
  }
}

Status scale_longrope(const RopeScaling& scaling, bool is_long, std::vector<float>& frequencies) {
  const std::vector<double>& factors = is_long ? scaling.long_factor : scaling.short_factor;
  if (factors.size() != frequencies.size()) {
    return error(StatusCode::kInvalidArgument,
                 "config.json: longrope's %s has %d factors, not one for each of the %d pairs",
                 is_long ? "long_factor" : "short_factor", factors.size(), frequencies.size());
  }
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0)) {
      return error(StatusCode::kInvalidArgument, "config.json: longrope has the factor %g",
                   factors[i]);
    }
    frequencies[i] = static_cast<float>(static_cast<double>(frequencies[i]) / factors[i]);
  }
  return absl::OkStatus();
}

double longrope_attention_factor(const RopeScaling& scaling, double positions, double original) {
  if (scaling.attention_factor.has_value()) return *scaling.attention_factor;
  const double factor = scaling.has_factor ? scaling.factor : positions / original;
  return factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(original));
}

double yarn_attention_factor(const RopeScaling& scaling) {
  if (scaling.attention_factor.has_value()) return *scaling.attention_factor;
  if (scaling.mscale != 0 && scaling.mscale_all_dim != 0) {
    return yarn_magnitude(scaling.factor, scaling.mscale) /
           yarn_magnitude(scaling.factor, scaling.mscale_all_dim);
  }
  return yarn_magnitude(scaling.factor, 1.0);
}

}  // namespace

double yarn_magnitude(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

StatusOr<Rope> Rope::make(const ModelConfig& config, uint32_t rotary_size, uint32_t tokens_max) {
  const RopeScaling& scaling = config.rope_scaling;
  const uint32_t original =
      scaling.original_positions_max > 0 ? scaling.original_positions_max : config.positions_max;
  if (rotary_size % 2 != 0) {
    return error(StatusCode::kInvalidArgument,
                 "config.json: %d of a head's %d values would turn: not an even number",
                 rotary_size, config.head_dim);
  }
  Rope rope;
  rope.rotary_size_ = rotary_size;
  rope.theta_ = config.rope_theta;
  rope.inverse_frequencies_ = plain_frequencies(config.rope_theta, rotary_size);
  if (scaling.type == "linear") {
    for (float& frequency : rope.inverse_frequencies_) {
      frequency = static_cast<float>(static_cast<double>(frequency) / scaling.factor);
    }
  } else if (scaling.type == "dynamic") {
    rope.dynamic_from_ = config.positions_max;
    rope.dynamic_factor_ = scaling.factor;
  } else if (scaling.type == "llama3") {
    scale_llama3(scaling, rope.inverse_frequencies_);
  } else if (scaling.type == "yarn") {
    scale_yarn(scaling, config.rope_theta, original, rotary_size, rope.inverse_frequencies_);
    rope.attention_factor_ = static_cast<float>(yarn_attention_factor(scaling));
  } else if (scaling.type == "longrope") {
    const uint32_t longest = tokens_max > 0 ? tokens_max : config.positions_max;
    TRIREME_RETURN_IF_ERROR(scale_longrope(scaling, longest > original, rope.inverse_frequencies_));
    rope.attention_factor_ =
        static_cast<float>(longrope_attention_factor(scaling, config.positions_max, original));
  } else if (scaling.type != "default") {
    return error(StatusCode::kInvalidArgument,
                 "config.json: rope type \"%s\" is not supported; supported are default, linear, "
                 "dynamic, llama3, longrope, yarn",
                 scaling.type);
  }
  return rope;
}

float Rope::frequency(uint32_t pair, uint32_t position) const {
  if (dynamic_from_ == 0 || position < dynamic_from_) return inverse_frequencies_[pair];
  const double size = rotary_size_;
  const double growth = dynamic_factor_ * (position + 1.0) / dynamic_from_ - (dynamic_factor_ - 1);
  const double theta = theta_ * std::pow(growth, size / (size - 2));
  return static_cast<float>(1.0 / std::pow(theta, 2.0 * pair / size));
}

void Rope::extend_to(uint32_t position_count) {
  const uint32_t pairs = rotary_size_ / 2;
  cosine_table_.resize(static_cast<std::size_t>(position_count) * pairs);
  sine_table_.resize(static_cast<std::size_t>(position_count) * pairs);
  for (uint32_t position = position_count_; position < position_count; ++position) {
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      // The product is rounded to fp32 as transformers does; at far positions that is visible.
      const float angle = frequency(pair, position) * static_cast<float>(position);
      const std::size_t at = static_cast<std::size_t>(position) * pairs + pair;
      cosine_table_[at] = std::cos(angle) * attention_factor_;
      sine_table_[at] = std::sin(angle) * attention_factor_;
    }
  }
  position_count_ = position_count;
}

RotaryAngles Rope::angles(std::span<const int32_t> positions) {
  const uint32_t pairs = rotary_size_ / 2;
  if (pairs == 0) return {};
  const int32_t last = positions.empty() ? 0 : *std::ranges::max_element(positions);
  if (static_cast<uint32_t>(last) >= position_count_) {
    extend_to(std::max({static_cast<uint32_t>(last) + 1, position_count_ * 2, 256U}));
  }
  cosines_.resize(positions.size() * pairs);
  sines_.resize(positions.size() * pairs);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::size_t from = static_cast<std::size_t>(positions[i]) * pairs;
    std::copy_n(&cosine_table_[from], pairs, &cosines_[i * pairs]);
    std::copy_n(&sine_table_[from], pairs, &sines_[i * pairs]);
  }
  return {cosines_, sines_, rotary_size_};
}

}  // namespace trireme::worker
