#include "cli/bench/request_plan.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/random.h"

namespace trireme::bench {
namespace {

// Streams of one seed that must not depend on one another: more prompts do not change the gaps.
enum class Stream : uint64_t { kArrivals = 1, kLengths = 2, kPrefix = 3, kPrompts = 16 };

Random stream(uint64_t seed, Stream which, uint64_t index = 0) {
  return Random(mix64(seed) ^ mix64(static_cast<uint64_t>(which) + index));
}

Duration seconds(double count) { return Duration(std::llround(count * 1e9)); }

std::vector<Duration> arrivals(const PlanOptions& options) {
  std::vector<Duration> times(options.num_prompts);
  if (std::isinf(options.request_rate)) return times;
  std::vector<double> at(options.num_prompts);
  std::mt19937_64 source(stream(options.seed, Stream::kArrivals).next());
  std::gamma_distribution<double> gap(options.burstiness, 1 / options.burstiness);
  double sum = 0;
  for (double& time : at) {
    sum += std::isinf(options.burstiness) ? 1 : gap(source);
    time = sum;
  }
  const double scale = sum > 0 ? options.num_prompts / options.request_rate / sum : 0;
  std::transform(at.begin(), at.end(), times.begin(),
                 [scale](double time) { return seconds(time * scale); });
  return times;
}

uint32_t draw_length(Random& random, uint32_t length, double ratio) {
  const auto low = static_cast<uint64_t>(std::floor(length * (1 - ratio)));
  const auto high = static_cast<uint64_t>(std::ceil(length * (1 + ratio)));
  return static_cast<uint32_t>(std::max<uint64_t>(1, low + random.below(high - low + 1)));
}

}  // namespace

RequestPlan::RequestPlan(const PlanOptions& options) : options_(options) {
  const std::vector<Duration> times = arrivals(options);
  Random random = stream(options.seed, Stream::kLengths);
  requests_.reserve(times.size());
  for (const Duration at : times) {
    const uint32_t input = draw_length(random, options.input_len, options.range_ratio);
    const uint32_t output = draw_length(random, options.output_len, options.range_ratio);
    requests_.push_back({.at = at, .input_len = options.prefix_len + input, .output_len = output});
  }
}

std::vector<uint32_t> RequestPlan::prompt(std::size_t index, uint32_t vocabulary) const {
  std::vector<uint32_t> ids(requests_[index].input_len);
  Random prefix = stream(options_.seed, Stream::kPrefix);
  Random own = stream(options_.seed, Stream::kPrompts, index);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Random& source = i < options_.prefix_len ? prefix : own;
    ids[i] = static_cast<uint32_t>(source.below(vocabulary));
  }
  return ids;
}

}  // namespace trireme::bench
