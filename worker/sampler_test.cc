// The sampler against exact probabilities (chi-square over positions, fixed seed) and each
// parameter's rule by itself.
#include "worker/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "common/random.h"
#include "worker/vocabulary_passes.h"

namespace trireme::worker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

wire::SamplingParams greedy() {
  wire::SamplingParams params;
  params.temperature = 0;
  return params;
}

int32_t sample(std::vector<float> logits, const wire::SamplingParams& params,
               const std::vector<int32_t>& tokens = {}, uint32_t prompt_count = 0,
               wire::TokenLogprobs* logprobs = nullptr) {
  TokenCounts counts;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    i < prompt_count ? counts.add_prompt(tokens[i]) : counts.add_output(tokens[i]);
  }
  Sampler sampler;
  return sampler.sample({logits, params, tokens, prompt_count, &counts}, logprobs);
}

std::vector<float> random_logits(std::size_t count, float spread, uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = spread * static_cast<float>(random.unit() - 0.5);
  return logits;
}

// How often each token comes over `draws` positions.
std::map<int32_t, int> histogram(const std::vector<float>& logits,
                                 const wire::SamplingParams& params, int draws) {
  Sampler sampler;
  std::map<int32_t, int> seen;
  std::vector<int32_t> tokens(static_cast<std::size_t>(draws), 0);
  for (std::size_t position = 0; position < tokens.size(); ++position) {
    std::vector<float> row = logits;
    ++seen[sampler.sample({row, params, std::span(tokens).first(position), 0}, nullptr)];
  }
  return seen;
}

// Chi-square statistic per degree of freedom: about 1 when the draws follow `weights`.
double chi_square(const std::map<int32_t, int>& seen, const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double draws = 0;
  for (const auto& [token, count] : seen) draws += count;
  double statistic = 0;
  int degrees = -1;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto it = seen.find(static_cast<int32_t>(i));
    const double count = it == seen.end() ? 0 : it->second;
    const double expected = draws * weights[i] / total;
    if (weights[i] == 0) {
      EXPECT_EQ(count, 0) << "token " << i << " cannot come";
      continue;
    }
    statistic += (count - expected) * (count - expected) / expected;
    ++degrees;
  }
  return statistic / std::max(degrees, 1);
}

std::vector<double> softmax_weights(const std::vector<float>& logits, float temperature) {
  std::vector<double> weights;
  for (const float logit : logits) weights.push_back(std::exp(logit / temperature));
  return weights;
}

TEST(Sampler, greedy_takes_the_largest_and_the_lowest_id_among_equals) {
  EXPECT_EQ(sample({1, 3, 2}, greedy()), 1);
  EXPECT_EQ(sample({1, 3, 3}, greedy()), 1);
  std::vector<float> long_row(5000, -2);
  long_row[4321] = long_row[4999] = 7;
  EXPECT_EQ(sample(long_row, greedy()), 4321);
  for (std::size_t i = 0; i < 600; ++i) {
    std::vector<float> row(600, 0);
    row[i] = 1;
    EXPECT_EQ(sample(row, greedy()), static_cast<int32_t>(i));
  }
}

TEST(Sampler, nan_or_infinity_anywhere_is_bad_logits) {
  for (const std::size_t size : {3U, 16U, 1000U}) {
    for (std::size_t i = 0; i < size; ++i) {
      std::vector<float> row(size, 1);
      row[i] = kNan;
      EXPECT_EQ(sample(row, greedy()), wire::kBadLogits);
      EXPECT_EQ(sample(row, {}), wire::kBadLogits);
    }
  }
  EXPECT_EQ(sample({1, kInfinity}, greedy()), wire::kBadLogits);
  EXPECT_EQ(sample({-kInfinity, -kInfinity}, greedy()), wire::kBadLogits);
  EXPECT_EQ(sample({-kInfinity, -5}, {}), 1);
}

TEST(Sampler, draws_follow_softmax) {
  for (const float temperature : {0.5F, 1.0F, 2.0F}) {
    const std::vector<float> logits = random_logits(700, 6, 1);
    wire::SamplingParams params{.temperature = temperature, .seed = 7};
    const double statistic =
        chi_square(histogram(logits, params, 100'000), softmax_weights(logits, temperature));
    EXPECT_NEAR(statistic, 1, 0.2) << temperature;
  }
}

TEST(Sampler, draws_follow_softmax_under_top_k) {
  const std::vector<float> logits = random_logits(300, 6, 2);
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<double> weights = softmax_weights(logits, 0.8F);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < sorted[19]) weights[i] = 0;
  }
  const wire::SamplingParams params{.temperature = 0.8F, .top_k = 20, .seed = 3};
  EXPECT_NEAR(chi_square(histogram(logits, params, 50'000), weights), 1, 0.9);
}

TEST(Sampler, draws_follow_softmax_under_min_p) {
  const std::vector<float> logits = random_logits(300, 6, 3);
  std::vector<double> weights = softmax_weights(logits, 1);
  const double least = 0.2 * *std::max_element(weights.begin(), weights.end());
  for (double& weight : weights) weight = weight < least ? 0 : weight;
  const wire::SamplingParams params{.min_p = 0.2F, .seed = 3};
  EXPECT_NEAR(chi_square(histogram(logits, params, 50'000), weights), 1, 0.5);
}

// The smallest set of most likely tokens with the mass, computed by sorting everything.
std::vector<double> top_p_weights(std::vector<double> weights, double top_p) {
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  for (const std::size_t i : order) {
    if (sum >= top_p * total) {
      weights[i] = 0;
    } else {
      sum += weights[i];
    }
  }
  return weights;
}

TEST(Sampler, draws_follow_softmax_under_top_p) {
  for (const float top_p : {0.3F, 0.9F, 0.99F}) {
    const std::vector<float> logits = random_logits(300, 8, 4);
    const wire::SamplingParams params{.top_p = top_p, .seed = 5};
    const auto weights = top_p_weights(softmax_weights(logits, 1), static_cast<double>(top_p));
    EXPECT_NEAR(chi_square(histogram(logits, params, 50'000), weights), 1, 0.5) << top_p;
  }
}

TEST(Sampler, top_p_of_a_long_row_keeps_exactly_the_set_that_sorting_keeps) {
  const std::vector<float> logits = random_logits(2000, 4, 12);
  for (const float top_p : {0.5F, 0.9F, 0.999F}) {
    const auto weights = top_p_weights(softmax_weights(logits, 1), static_cast<double>(top_p));
    const auto kept = static_cast<std::size_t>(
        std::count_if(weights.begin(), weights.end(), [](double weight) { return weight > 0; }));
    const auto seen = histogram(logits, {.top_p = top_p, .seed = 6}, 60'000);
    EXPECT_GT(seen.size(), kept * 95 / 100) << top_p;
    for (const auto& [token, count] : seen) {
      EXPECT_GT(weights[static_cast<std::size_t>(token)], 0) << token << " came " << count;
    }
  }
}

TEST(Sampler, top_p_of_a_flat_row_keeps_the_lowest_ids) {
  const std::vector<float> logits(1000, 0);
  const wire::SamplingParams params{.top_p = 0.25F, .seed = 5};
  const auto seen = histogram(logits, params, 20'000);
  EXPECT_EQ(seen.size(), 250u);
  EXPECT_EQ(seen.rbegin()->first, 249);
}

TEST(Sampler, filters_apply_one_after_the_other) {
  const std::vector<float> logits = random_logits(300, 8, 6);
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<double> weights = softmax_weights(logits, 1);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < sorted[29]) weights[i] = 0;
  }
  const double least = 0.05 * *std::max_element(weights.begin(), weights.end());
  for (double& weight : weights) weight = weight < least ? 0 : weight;
  weights = top_p_weights(weights, 0.8);
  const wire::SamplingParams params{.top_p = 0.8F, .top_k = 30, .min_p = 0.05F, .seed = 9};
  EXPECT_NEAR(chi_square(histogram(logits, params, 50'000), weights), 1, 0.9);
}

TEST(Sampler, values_equal_to_the_kth_stay_in) {
  const wire::SamplingParams params{.top_k = 2, .seed = 1};
  const auto seen = histogram({3, 2, 2, 1}, params, 2000);
  EXPECT_EQ(seen.count(1) + seen.count(2), 2u);
  EXPECT_EQ(seen.count(3), 0u);
}

TEST(Sampler, same_seed_and_position_give_the_same_token) {
  const std::vector<float> logits = random_logits(5000, 3, 8);
  const wire::SamplingParams params{.seed = 11};
  const std::vector<int32_t> tokens = {5, 6, 7};
  const int32_t token = sample(logits, params, tokens, 3);
  EXPECT_EQ(sample(logits, params, {1, 2, 3}, 1), token) << "only the position counts";
  std::set<int32_t> others;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    others.insert(sample(logits, {.seed = seed}, tokens, 3));
  }
  EXPECT_GT(others.size(), 15u);
}

// These numbers are the contract of replay across versions.
TEST(Sampler, noise_is_fixed_forever) {
  EXPECT_EQ(uniform_at(0, 0), (static_cast<double>(mix64(mix64(0)) >> 12) + 0.5) * 0x1.0p-52);
  EXPECT_NE(uniform_at(1, 0), uniform_at(0, 1));
  double sum = 0;
  for (uint64_t i = 0; i < 10'000; ++i) sum += uniform_at(42, i);
  EXPECT_NEAR(sum / 10'000, 0.5, 0.01);
}

TEST(Sampler, tiny_temperatures_are_raised_and_stay_finite) {
  wire::SamplingParams params{.temperature = 1e-4F, .seed = 2};
  EXPECT_EQ(sample({80, 100, 90}, params), 1);
}

TEST(Sampler, logit_bias_is_added) {
  wire::SamplingParams params = greedy();
  params.logit_bias = {{0, 5}, {1, -100}, {77, 3}, {-1, 3}};
  EXPECT_EQ(sample({1, 3, 2}, params), 0);
}

TEST(Sampler, only_allowed_tokens_come) {
  wire::SamplingParams params = greedy();
  params.allowed_token_ids = {2, 0, 2, 99};
  EXPECT_EQ(sample({1, 3, 2}, params), 2);
  params.allowed_token_ids = {99};
  EXPECT_EQ(sample({1, 3, 2}, params), wire::kBadLogits);
}

TEST(Sampler, end_is_masked_until_min_tokens) {
  wire::SamplingParams params = greedy();
  params.output_tokens_min = 2;
  params.eos_token_ids = {1};
  params.stop_token_ids = {2};
  EXPECT_EQ(sample({1, 3, 2}, params, {9, 9}, 2), 0);
  EXPECT_EQ(sample({1, 3, 2}, params, {9, 9, 0}, 2), 0);
  EXPECT_EQ(sample({1, 3, 2}, params, {9, 9, 0, 0}, 2), 1);
}

TEST(Sampler, bad_word_loses_its_last_token_after_its_prefix) {
  wire::SamplingParams params = greedy();
  params.bad_words = {{{4, 5, 1}}, {{2}}, {{}}};
  EXPECT_EQ(sample({0, 3, 9}, params, {4, 5}, 0), 0);
  EXPECT_EQ(sample({0, 3, 9}, params, {5, 4}, 0), 1);
  EXPECT_EQ(sample({0, 3, 9}, params, {4, 5}, 2), 1) << "the prompt is not output";
}

TEST(Sampler, penalties_follow_their_formulas) {
  wire::SamplingParams params = greedy();
  params.repetition_penalty = 2;
  EXPECT_EQ(sample({1.1F, 2, -3}, params, {1}, 1), 0) << "prompt counts for repetition";
  EXPECT_EQ(sample({-3, -2, -9}, params, {1}, 1), 0) << "negative ones are multiplied";
  params = greedy();
  params.frequency_penalty = 0.5F;
  EXPECT_EQ(sample({1.6F, 2.5F, 0}, params, {1}, 0), 1);
  EXPECT_EQ(sample({1.6F, 2.5F, 0}, params, {1, 1}, 0), 0);
  EXPECT_EQ(sample({1.6F, 2.5F, 0}, params, {1, 1}, 2), 1) << "output only";
  params = greedy();
  params.presence_penalty = 0.5F;
  EXPECT_EQ(sample({1.6F, 2.5F, 0}, params, {1, 1}, 0), 1);
  params.presence_penalty = 1;
  EXPECT_EQ(sample({1.6F, 2.5F, 0}, params, {1, 1}, 0), 0);
}

TEST(Sampler, logprobs_are_those_of_the_raw_row) {
  wire::SamplingParams params = greedy();
  params.logprobs = 2;
  params.logit_bias = {{0, 50}};
  wire::TokenLogprobs logprobs;
  EXPECT_EQ(sample({1, 3, 2}, params, {}, 0, &logprobs), 0);
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
  EXPECT_EQ(logprobs.token_ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(logprobs.rank, 3);
  ASSERT_EQ(logprobs.logprobs.size(), 3u);
  EXPECT_NEAR(logprobs.logprobs[0], 1 - std::log(sum), 1e-6);
  EXPECT_NEAR(logprobs.logprobs[1], 3 - std::log(sum), 1e-6);
  EXPECT_NEAR(logprobs.logprobs[2], 2 - std::log(sum), 1e-6);
}

TEST(Sampler, logprobs_zero_gives_the_chosen_token_alone) {
  wire::SamplingParams params = greedy();
  params.logprobs = 0;
  wire::TokenLogprobs logprobs;
  EXPECT_EQ(sample({1, 3, 2}, params, {}, 0, &logprobs), 1);
  EXPECT_EQ(logprobs.token_ids, (std::vector<int32_t>{1}));
  EXPECT_EQ(logprobs.rank, 1);
}

TEST(Sampler, describes_any_token_of_a_row) {
  Sampler sampler;
  wire::TokenLogprobs out;
  const std::vector<float> row = random_logits(3000, 10, 4);
  ASSERT_TRUE(sampler.describe(row, 17, 5000, out));
  EXPECT_EQ(out.token_ids.size(), 3001u);
  double sum = 0;
  for (std::size_t i = 1; i < out.logprobs.size(); ++i) {
    sum += std::exp(static_cast<double>(out.logprobs[i]));
    if (i > 1) {
      EXPECT_LE(out.logprobs[i], out.logprobs[i - 1]);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(out.token_ids[static_cast<std::size_t>(out.rank)], 17);
  EXPECT_FALSE(sampler.describe(row, 3000, 1, out));
  EXPECT_FALSE(sampler.describe(std::vector<float>{0, kNan}, 0, 1, out));
}

TEST(VocabularyScan, exponential_is_exact_to_float_precision) {
  for (float x = 0; x > -86; x -= 0.0137F) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(static_cast<double>(exp_negative(x)) / exact, 1, 3e-7) << x;
  }
  EXPECT_EQ(exp_negative(0), 1);
  EXPECT_EQ(exp_negative(-200), 0);
  EXPECT_EQ(exp_negative(-kInfinity), 0);
}

TEST(VocabularyScan, every_instruction_set_gives_the_same_bits) {
  const VocabularyPasses& plain = *vocabulary_passes().front();
  for (const VocabularyPasses* set : vocabulary_passes()) {
    SCOPED_TRACE(set->name);
    for (const std::size_t size : {1U, 15U, 16U, 17U, 31U, 33U, 100U, 255U, 256U}) {
      std::vector<float> row = random_logits(size, 9, size);
      if (size > 1) row[size / 2] = -kInfinity;
      const float peak = *std::max_element(row.begin(), row.end());
      std::vector<float> weights(size);
      std::vector<float> plain_weights(size);
      EXPECT_EQ(set->exp_block(row.data(), size, peak, 0.7F, weights.data()),
                plain.exp_block(row.data(), size, peak, 0.7F, plain_weights.data()));
      EXPECT_EQ(weights, plain_weights);
      bool has_nan = true;
      EXPECT_EQ(set->largest(row.data(), size, &has_nan), peak);
      EXPECT_FALSE(has_nan);
      EXPECT_EQ(set->count_above(row.data(), size, row[0]),
                plain.count_above(row.data(), size, row[0]));
      EXPECT_EQ(set->next_at_least(row.data(), 0, size, peak),
                plain.next_at_least(row.data(), 0, size, peak));
      for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
        std::vector<float> broken = row;
        broken[at] = kNan;
        set->largest(broken.data(), size, &has_nan);
        EXPECT_TRUE(has_nan) << size << " " << at;
      }
    }
  }
}

TEST(VocabularyScan, largest_come_in_order_for_every_k) {
  for (const std::size_t size : {1U, 15U, 16U, 17U, 300U, 3000U}) {
    std::vector<float> row = random_logits(size, 4, size);
    for (float& value : row) value = std::round(value * 20);  // Many equals.
    std::vector<Candidate> all;
    for (std::size_t i = 0; i < size; ++i) all.push_back({row[i], static_cast<int32_t>(i)});
    std::sort(all.begin(), all.end());
    for (const std::size_t k : {std::size_t{1}, size / 3, size / 2, size}) {
      if (k == 0) continue;
      std::vector<Candidate> got;
      find_largest(row, k, got);
      ASSERT_EQ(got.size(), k);
      for (std::size_t i = 0; i < k; ++i) {
        EXPECT_EQ(got[i].value, all[i].value);
        EXPECT_EQ(got[i].id, all[i].id) << size << " " << k;
      }
    }
  }
}

TEST(TokenCounts, what_is_taken_back_was_never_there) {
  TokenCounts counts;
  for (int32_t token = 0; token < 50; ++token) counts.add_prompt(token);
  for (int32_t token = 40; token < 60; ++token) counts.add_output(token);
  const std::vector<TokenCounts::Entry> before(counts.entries().begin(), counts.entries().end());
  // Over a growth of the table.
  for (int32_t token = 30; token < 300; ++token) counts.add_output(token);
  for (int32_t token = 299; token >= 30; --token) counts.take_back_output(token);
  ASSERT_EQ(counts.entries().size(), before.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(counts.entries()[i].token, before[i].token);
    EXPECT_EQ(counts.entries()[i].output_count, before[i].output_count) << before[i].token;
  }
  counts.add_output(299);
  EXPECT_EQ(counts.entries().size(), before.size() + 1);
}

TEST(TokenCounts, counts_prompt_and_output_apart) {
  TokenCounts counts;
  for (int32_t token = 0; token < 1000; ++token) counts.add_prompt(token % 100);
  for (int32_t token = 0; token < 1000; ++token) counts.add_output(token % 300);
  ASSERT_EQ(counts.entries().size(), 300u);
  for (const TokenCounts::Entry& entry : counts.entries()) {
    EXPECT_EQ(entry.output_count, entry.token < 100 ? 4u : 3u);
  }
  counts.clear();
  counts.add_prompt(7);
  EXPECT_EQ(counts.entries().size(), 1u);
  EXPECT_EQ(counts.entries()[0].output_count, 0u);
}

}  // namespace
}  // namespace trireme::worker
