// Goal: the kernels of every instruction set that this CPU runs compute what reference/ computes,
// for shapes that fit no tile, and a row's bits do not depend on the rows beside it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/random.h"
#include "worker/kernels/cpu/cpu_device.h"
#include "worker/kernels/element.h"
#include "worker/kernels/reference/reference.h"

namespace trireme::worker::cpu {
namespace {

// Of the largest value: fp32 chains of some hundred terms, exp within 2 ulp.
constexpr float kTolerance = 2e-6F;

std::vector<float> random_values(std::size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.unit() * 2 - 1);
  return values;
}

float largest(std::span<const float> values) {
  float best = 0;
  for (const float value : values) best = std::max(best, std::abs(value));
  return best;
}

void expect_within(std::span<const float> got, std::span<const float> expected, float allowed) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], allowed) << "at " << i;
  }
}

void expect_close(std::span<const float> got, std::span<const float> expected,
                  float tolerance = kTolerance) {
  expect_within(got, expected, tolerance * std::max(largest(expected), 1e-3F));
}

struct Case {
  const KernelTable* kernels;
  Element element;
};

class Kernels : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] std::vector<float> as_operand(std::vector<float> values) const {
    return GetParam().element == Element::kBfloat16 ? reference::rounded_to_bfloat16(values)
                                                    : values;
  }

  static View view_of(std::vector<float>& values, uint32_t rows) {
    const auto columns = static_cast<uint32_t>(values.size() / rows);
    return {values.data(), rows, columns, columns};
  }

  static MatrixSlice slice_of(const std::vector<float>& values, uint32_t rows) {
    const auto columns = static_cast<uint32_t>(values.size() / rows);
    return {values.data(), Element::kFloat32, columns, rows, columns};
  }

  [[nodiscard]] std::vector<float> run_linear(const LinearWeight& weight, std::vector<float> x,
                                              uint32_t rows) {
    std::vector<float> out(std::size_t{rows} * weight.out_features());
    device_.linear(weight, view_of(x, rows), view_of(out, rows));
    return out;
  }

  ThreadPool pool_{2};
  SoloCollective solo_;
  CpuDevice device_{GetParam().element, pool_, solo_, *GetParam().kernels};
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const KernelTable* table : runnable_kernels()) {
    for (Element element : {Element::kFloat32, Element::kBfloat16}) {
      cases.push_back({table, element});
    }
  }
  return cases;
}

std::string name_of_case(const testing::TestParamInfo<Case>& test) {
  return std::string(test.param.kernels->name) +
         (test.param.element == Element::kBfloat16 ? "_bf16" : "_fp32");
}

INSTANTIATE_TEST_SUITE_P(All, Kernels, testing::ValuesIn(all_cases()), name_of_case);

TEST_P(Kernels, a_linear_layer_is_the_reference_for_shapes_that_fit_no_tile) {
  for (uint32_t in : {1U, 7U, 64U, 129U, 700U}) {
    for (uint32_t out : {1U, 31U, 33U, 100U, 257U}) {
      const auto weight = as_operand(random_values(std::size_t{out} * in, in * 1000 + out));
      const auto bias = as_operand(random_values(out, out));
      auto linear =
          device_.load_linear({.parts = {slice_of(weight, out)}, .biases = {slice_of(bias, 1)}});
      ASSERT_TRUE(linear.ok());
      for (uint32_t rows : {1U, 2U, 3U, 11U, 12U, 13U, 29U, 50U}) {
        const auto x = as_operand(random_values(std::size_t{rows} * in, rows));
        expect_close(run_linear(**linear, x, rows), reference::linear(x, weight, bias, rows, in));
      }
    }
  }
}

TEST_P(Kernels, stacked_parts_and_padding_are_one_matrix) {
  const auto first = as_operand(random_values(5 * 20, 1));
  const auto second = as_operand(random_values(40 * 20, 2));
  auto linear =
      device_.load_linear({.parts = {slice_of(first, 5), slice_of(second, 40)}, .row_count = 50});
  ASSERT_TRUE(linear.ok());
  EXPECT_EQ((*linear)->out_features(), 50U);
  std::vector<float> stacked = first;
  stacked.insert(stacked.end(), second.begin(), second.end());
  stacked.resize(50 * 20);
  const auto x = as_operand(random_values(20, 3));
  expect_close(run_linear(**linear, x, 1), reference::linear(x, stacked, {}, 1, 20));
}

TEST_P(Kernels, a_row_has_the_same_bits_among_any_number_of_rows) {
  constexpr uint32_t out = 203;
  constexpr uint32_t rows_max = 70;
  for (uint32_t in : {150U, 1100U}) {
    const auto weight = random_values(std::size_t{out} * in, 5);
    auto linear = device_.load_linear({.parts = {slice_of(weight, out)}});
    ASSERT_TRUE(linear.ok());
    const auto x = random_values(std::size_t{rows_max} * in, 6);
    const auto all = run_linear(**linear, x, rows_max);
    for (uint32_t rows = 1; rows <= rows_max; ++rows) {
      // The last rows of x, so that each row meets every place in a tile.
      const std::vector<float> some(x.end() - static_cast<std::ptrdiff_t>(rows) * in, x.end());
      const auto got = run_linear(**linear, some, rows);
      ASSERT_TRUE(std::equal(got.rbegin(), got.rend(), all.rbegin())) << rows << " rows";
    }
  }
}

TEST_P(Kernels, a_row_has_the_same_bits_among_more_rows_than_pass_at_once) {
  constexpr uint32_t out = 70;
  constexpr uint32_t in = 600;
  constexpr uint32_t rows = 1100;
  const auto weight = random_values(std::size_t{out} * in, 5);
  auto linear = device_.load_linear({.parts = {slice_of(weight, out)}});
  ASSERT_TRUE(linear.ok());
  const auto x = random_values(std::size_t{rows} * in, 6);
  const auto all = run_linear(**linear, x, rows);
  for (uint32_t row = 0; row < rows; row += 37) {
    const std::vector<float> one(x.begin() + std::ptrdiff_t{row} * in,
                                 x.begin() + std::ptrdiff_t{row + 1} * in);
    const auto got = run_linear(**linear, one, 1);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), all.begin() + std::ptrdiff_t{row} * out)) << row;
  }
}

TEST_P(Kernels, norm_is_the_reference) {
  for (uint32_t columns : {1U, 16U, 50U, 300U}) {
    auto x = random_values(std::size_t{3} * columns, columns);
    const auto delta = random_values(std::size_t{3} * columns, columns + 1);
    const auto weight = as_operand(random_values(columns, columns + 2));
    auto loaded = device_.load_vector(slice_of(weight, 1));
    ASSERT_TRUE(loaded.ok());
    std::vector<float> out(x.size());
    auto delta_copy = delta;
    std::vector<float> expected;
    for (std::size_t row = 0; row < 3; ++row) {
      std::vector<float> sum(columns);
      for (std::size_t i = 0; i < columns; ++i)
        sum[i] = x[row * columns + i] + delta[row * columns + i];
      const auto normed = reference::rms_norm(sum, weight, 1e-5F);
      expected.insert(expected.end(), normed.begin(), normed.end());
    }
    device_.add_rms_norm(view_of(x, 3), view_of(delta_copy, 3), **loaded, 1e-5F, view_of(out, 3));
    expect_close(out, expected);
  }
}

TEST_P(Kernels, silu_mul_is_the_reference_far_from_zero_too) {
  for (uint32_t columns : {1U, 16U, 77U}) {
    auto gate_up = random_values(std::size_t{2} * columns, columns);
    gate_up[0] = -200.0F;
    for (uint32_t i = 1; i < columns; ++i) gate_up[i] *= 30.0F;
    std::vector<float> out(columns);
    GetParam().kernels->silu_mul(gate_up.data(), gate_up.data() + columns, columns, out.data());
    const std::span<const float> all(gate_up);
    const auto expected = reference::silu_mul(all.first(columns), all.subspan(columns));
    expect_close(out, expected);
  }
}

// Wide enough that all is cut, and as wide as no panel.
TEST_P(Kernels, a_feed_forward_block_is_its_products_and_the_activation) {
  constexpr uint32_t in = 70;
  constexpr uint32_t out_columns = 50;
  for (uint32_t columns : {8U, 40U, 96U, 672U}) {
    const auto gate = as_operand(random_values(std::size_t{columns} * in, 1));
    const auto up = as_operand(random_values(std::size_t{columns} * in, 2));
    const auto down = as_operand(random_values(std::size_t{out_columns} * columns, 3));
    const auto bias = as_operand(random_values(columns, 4));
    auto gate_up = device_.load_linear({.parts = {slice_of(gate, columns), slice_of(up, columns)},
                                        .biases = {slice_of(bias, 1), slice_of(bias, 1)}});
    auto down_weight = device_.load_linear({.parts = {slice_of(down, out_columns)}});
    ASSERT_TRUE(gate_up.ok() && down_weight.ok());
    for (uint32_t rows : {1U, 5U, 40U, 600U}) {
      auto x = as_operand(random_values(std::size_t{rows} * in, 5));
      std::vector<float> out(std::size_t{rows} * out_columns);
      device_.feed_forward(Activation::kSilu, **gate_up, **down_weight, view_of(x, rows),
                           view_of(out, rows));
      const auto activated = as_operand(reference::silu_mul(
          reference::linear(x, gate, bias, rows, in), reference::linear(x, up, bias, rows, in)));
      // A value that lies between two bf16 numbers may go to either.
      const float tolerance = GetParam().element == Element::kBfloat16 ? 2e-3F : kTolerance;
      expect_close(out, reference::linear(activated, down, {}, rows, columns), tolerance);
      std::vector<float> last(out_columns);
      std::vector<float> last_x(x.end() - in, x.end());
      device_.feed_forward(Activation::kSilu, **gate_up, **down_weight, view_of(last_x, 1),
                           view_of(last, 1));
      ASSERT_TRUE(std::equal(last.begin(), last.end(), out.end() - out_columns)) << rows;
    }
  }
}

TEST_P(Kernels, rotary_is_the_reference_and_leaves_the_rest_of_a_head) {
  constexpr uint32_t head_size = 46;
  constexpr uint32_t rotary_size = 38;
  auto heads = random_values(std::size_t{2} * head_size, 1);
  const auto cosines = random_values(rotary_size / 2, 2);
  const auto sines = random_values(rotary_size / 2, 3);
  std::vector<float> expected;
  for (uint32_t head = 0; head < 2; ++head) {
    const auto part = std::span<const float>(heads).subspan(head * head_size, head_size);
    const auto turned = reference::rotary(part.first(rotary_size), cosines, sines);
    expected.insert(expected.end(), turned.begin(), turned.end());
    expected.insert(expected.end(), part.begin() + rotary_size, part.end());
  }
  const std::vector<int32_t> one(1, 0);
  const ForwardRow row{.token_count = 1};
  const ForwardBatch batch{.tokens = one, .positions = one, .rows = std::span(&row, 1)};
  device_.begin_step(batch, {cosines, sines, rotary_size});
  device_.rotary(view_of(heads, 1), head_size);
  ASSERT_TRUE(device_.end_step().ok());
  expect_close(heads, expected);
}

TEST_P(Kernels, a_product_has_the_same_bits_with_any_number_of_threads_and_beyond_a_block_of_rows) {
  constexpr uint32_t in = 96;
  constexpr uint32_t out = 500;
  constexpr uint32_t rows = 260;
  const auto weight = random_values(std::size_t{out} * in, 5);
  const auto x = random_values(std::size_t{rows} * in, 6);
  std::vector<float> expected;
  for (const uint32_t threads : {1U, 2U, 5U}) {
    ThreadPool pool(threads);
    CpuDevice device(GetParam().element, pool, solo_, *GetParam().kernels);
    auto linear = device.load_linear({.parts = {slice_of(weight, out)}});
    ASSERT_TRUE(linear.ok());
    auto x_copy = x;
    std::vector<float> all(std::size_t{rows} * out);
    device.linear(**linear, view_of(x_copy, rows), view_of(all, rows));
    if (expected.empty()) expected = all;
    ASSERT_EQ(all, expected) << threads << " threads";
    for (const uint32_t row : {0U, 239U, 240U, rows - 1}) {
      View one = view_of(x_copy, rows).rows(row, 1);
      std::vector<float> alone(out);
      device.linear(**linear, one, view_of(alone, 1));
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + row * out)) << row;
    }
  }
}

TEST_P(Kernels, weights_in_the_model_s_own_bf16_are_packed_as_those_that_are_converted) {
  constexpr uint32_t in = 140;
  constexpr uint32_t out = 77;
  const auto weight = reference::rounded_to_bfloat16(random_values(std::size_t{out} * in, 5));
  std::vector<uint16_t> halves;
  for (const float value : weight) halves.push_back(bfloat16_of(value));
  MatrixSlice stored = slice_of(weight, out);
  auto converted = device_.load_linear({.parts = {stored}});
  stored.data = halves.data();
  stored.element = Element::kBfloat16;
  auto copied = device_.load_linear({.parts = {stored}});
  ASSERT_TRUE(converted.ok() && copied.ok());
  const auto x = random_values(std::size_t{3} * in, 6);
  EXPECT_EQ(run_linear(**copied, x, 3), run_linear(**converted, x, 3));
}

struct AttentionCase {
  uint32_t query_heads;
  uint32_t kv_heads;
  uint32_t head_size;
  uint32_t window;
  uint32_t block_tokens;
  bool is_causal = true;
};

TEST_P(Kernels, attention_is_the_reference_across_blocks_spans_and_windows) {
  constexpr uint32_t token_count = 2 * kAttentionSpanTokens + 37;
  for (const auto& [query_heads, kv_heads, size, window, block_tokens, is_causal] :
       {AttentionCase{1, 1, 64, 0, 16}, AttentionCase{7, 1, 10, 0, 16},
        AttentionCase{6, 2, 128, 300, 32}, AttentionCase{4, 4, 80, 5, 16},
        AttentionCase{3, 3, 32, 0, 16, false}}) {
    auto q = random_values(std::size_t{token_count} * query_heads * size, 1);
    auto k = random_values(std::size_t{token_count} * kv_heads * size, 2);
    auto v = random_values(std::size_t{token_count} * kv_heads * size, 3);
    const uint32_t block_count = token_count / block_tokens + 1;
    ASSERT_TRUE(device_
                    .allocate_kv({.element = GetParam().element,
                                  .layer_count = 2,
                                  .kv_head_count = kv_heads,
                                  .head_size = size,
                                  .block_tokens = block_tokens},
                                 block_count)
                    .ok());
    std::vector<int32_t> blocks(block_count);
    std::iota(blocks.rbegin(), blocks.rend(), 0);
    std::vector<int32_t> positions(token_count);
    std::iota(positions.begin(), positions.end(), 0);
    const ForwardRow row{.token_count = token_count, .blocks = blocks};
    const ForwardBatch batch{
        .tokens = positions, .positions = positions, .rows = std::span(&row, 1)};
    std::vector<float> out(q.size());
    const float scale = 1.0F / std::sqrt(static_cast<float>(size)) * 3;
    device_.begin_step(batch, {});
    device_.append_kv(1, view_of(k, token_count), view_of(v, token_count));
    device_.attention(1,
                      {.query_head_count = query_heads,
                       .kv_head_count = kv_heads,
                       .head_size = size,
                       .scale = scale,
                       .window_tokens = window,
                       .is_causal = is_causal},
                      view_of(q, token_count), view_of(out, token_count));
    ASSERT_TRUE(device_.end_step().ok());
    q = as_operand(q);
    k = as_operand(k);
    v = as_operand(v);
    for (uint32_t head = 0; head < query_heads; ++head) {
      const uint32_t kv_head = head / (query_heads / kv_heads);
      std::vector<float> keys;
      std::vector<float> values;
      for (std::size_t t = 0; t < token_count; ++t) {
        const auto at = static_cast<std::ptrdiff_t>((t * kv_heads + kv_head) * size);
        keys.insert(keys.end(), k.begin() + at, k.begin() + at + size);
        values.insert(values.end(), v.begin() + at, v.begin() + at + size);
      }
      for (uint32_t t : {0U, 1U, 15U, 16U, 255U, 256U, 300U, token_count - 1}) {
        const std::size_t at = (std::size_t{t} * query_heads + head) * size;
        const uint32_t first = window > 0 && t >= window ? t + 1 - window : 0;
        const uint32_t last = is_causal ? t : token_count - 1;
        const auto expected =
            reference::attention(std::span(q).subspan(at, size), keys, values, first, last, scale);
        // Beside V in bf16 the weights are rounded to bf16 too, each by 2^-9 of itself at most.
        const float allowed = GetParam().element == Element::kBfloat16
                                  ? 0x1p-9F * largest(values)
                                  : 3e-6F * std::max(largest(expected), 1e-3F);
        expect_within(std::span(out).subspan(at, size), expected, allowed);
      }
    }
  }
}

// Positions that a token does not see may hold anything: what an earlier sequence left in the
// block, or later tokens of its own.
TEST_P(Kernels, attention_of_a_token_is_not_touched_by_what_it_does_not_see) {
  constexpr uint32_t token_count = 50;
  constexpr uint32_t bad = 37;
  constexpr uint32_t heads = 3;
  constexpr uint32_t size = 64;
  constexpr uint32_t columns = heads * size;
  const std::vector<int32_t> blocks = {0, 1, 2, 3};
  std::vector<int32_t> positions(token_count);
  std::iota(positions.begin(), positions.end(), 0);
  const auto values = random_values(std::size_t{token_count} * columns, 1);
  const auto run = [&](std::vector<float> kv, uint32_t count, uint32_t window) {
    std::vector<float> q(values.begin(), values.begin() + std::ptrdiff_t{count} * columns);
    kv.resize(q.size());
    std::vector<float> out(q.size());
    const ForwardRow row{.token_count = count, .blocks = blocks};
    const ForwardBatch batch{.tokens = std::span(positions).first(count),
                             .positions = std::span(positions).first(count),
                             .rows = std::span(&row, 1)};
    device_.begin_step(batch, {});
    device_.append_kv(0, view_of(kv, count), view_of(kv, count));
    device_.attention(0,
                      {.query_head_count = heads,
                       .kv_head_count = heads,
                       .head_size = size,
                       .scale = 0.3F,
                       .window_tokens = window},
                      view_of(q, count), view_of(out, count));
    EXPECT_TRUE(device_.end_step().ok());
    return out;
  };
  for (const uint32_t window : {0U, 5U}) {
    for (const uint32_t count : {1U, 20U, 36U, 37U}) {
      ASSERT_TRUE(device_
                      .allocate_kv({.element = GetParam().element,
                                    .layer_count = 1,
                                    .kv_head_count = heads,
                                    .head_size = size},
                                   4)
                      .ok());
      const auto clean = run(values, count, window);
      auto spoilt = values;
      std::fill(spoilt.begin() + std::ptrdiff_t{bad} * columns, spoilt.end(),
                std::numeric_limits<float>::quiet_NaN());
      const auto beside_later = run(spoilt, token_count, window);
      EXPECT_TRUE(std::equal(clean.begin(), clean.end(), beside_later.begin()))
          << count << " tokens before a NaN";
      const auto after_another = run(values, count, window);
      EXPECT_EQ(after_another, clean) << count << " tokens where a NaN was";
    }
  }
}

TEST_P(Kernels, attention_of_large_scores_is_the_mean_of_equals) {
  constexpr uint32_t token_count = 20;
  constexpr uint32_t size = 64;
  const std::vector<int32_t> blocks = {0, 1};
  std::vector<int32_t> positions(token_count);
  std::iota(positions.begin(), positions.end(), 0);
  for (const float magnitude : {1e3F, 3e4F, 1e6F, -3e4F}) {
    SCOPED_TRACE(magnitude);
    std::vector<float> q(std::size_t{token_count} * size, magnitude);
    std::vector<float> k(q.size(), magnitude);
    std::vector<float> v(q.size());
    for (uint32_t token = 0; token < token_count; ++token) {
      std::fill_n(v.begin() + std::ptrdiff_t{token} * size, size, static_cast<float>(token + 1));
    }
    std::vector<float> out(q.size());
    ASSERT_TRUE(device_
                    .allocate_kv({.element = GetParam().element,
                                  .layer_count = 1,
                                  .kv_head_count = 1,
                                  .head_size = size},
                                 2)
                    .ok());
    const ForwardRow row{.token_count = token_count, .blocks = blocks};
    const ForwardBatch batch{
        .tokens = positions, .positions = positions, .rows = std::span(&row, 1)};
    device_.begin_step(batch, {});
    device_.append_kv(0, view_of(k, token_count), view_of(v, token_count));
    device_.attention(
        0, {.query_head_count = 1, .kv_head_count = 1, .head_size = size, .scale = 0.125F},
        view_of(q, token_count), view_of(out, token_count));
    ASSERT_TRUE(device_.end_step().ok());
    EXPECT_NEAR(out.back(), 10.5F, 1e-4F);
  }
}

TEST_P(Kernels, attention_of_a_token_has_the_same_bits_in_any_chunk_of_its_prompt) {
  constexpr uint32_t token_count = kAttentionSpanTokens + 45;
  constexpr uint32_t block_tokens = 16;
  for (const auto& [query_heads, kv_heads, size, window, cap] :
       {std::tuple{7U, 1U, 32U, 0U, 0.0F}, std::tuple{6U, 2U, 16U, 40U, 0.0F},
        std::tuple{3U, 3U, 24U, 1U, 20.0F}}) {
    auto q = random_values(std::size_t{token_count} * query_heads * size, 1);
    auto k = random_values(std::size_t{token_count} * kv_heads * size, 2);
    auto v = random_values(std::size_t{token_count} * kv_heads * size, 3);
    ASSERT_TRUE(device_
                    .allocate_kv({.element = GetParam().element,
                                  .layer_count = 1,
                                  .kv_head_count = kv_heads,
                                  .head_size = size,
                                  .block_tokens = block_tokens},
                                 token_count / block_tokens + 1)
                    .ok());
    std::vector<int32_t> blocks(token_count / block_tokens + 1);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::vector<int32_t> positions(token_count);
    std::iota(positions.begin(), positions.end(), 0);
    const auto attend_in_chunks = [&](uint32_t chunk) {
      std::vector<float> out(q.size());
      for (uint32_t begin = 0; begin < token_count; begin += chunk) {
        const uint32_t count = std::min(chunk, token_count - begin);
        const ForwardRow row{.token_count = count, .start = begin, .blocks = blocks};
        const auto some = std::span(positions).subspan(begin, count);
        const ForwardBatch batch{.tokens = some, .positions = some, .rows = std::span(&row, 1)};
        device_.begin_step(batch, {});
        device_.append_kv(0, view_of(k, token_count).rows(begin, count),
                          view_of(v, token_count).rows(begin, count));
        device_.attention(0,
                          {.query_head_count = query_heads,
                           .kv_head_count = kv_heads,
                           .head_size = size,
                           .scale = 0.3F,
                           .window_tokens = window,
                           .soft_cap = cap},
                          view_of(q, token_count).rows(begin, count),
                          view_of(out, token_count).rows(begin, count));
        EXPECT_TRUE(device_.end_step().ok());
      }
      return out;
    };
    const auto alone = attend_in_chunks(1);
    for (const uint32_t chunk : {7U, token_count}) {
      ASSERT_EQ(attend_in_chunks(chunk), alone) << "chunks of " << chunk << ", window " << window;
    }
  }
}

TEST(Element, float16_is_read_exactly) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(half));
    const float got = read_element(&half, 0, Element::kFloat16);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      ASSERT_EQ(got, expected) << bits;
    }
  }
}

TEST(HostMemory, more_than_the_machine_has_is_refused_with_both_sizes) {
  const auto memory = HostMemory::allocate(uint64_t{1} << 50, "KV cache");
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(memory.status().message()).find("KV cache: 1073741824.0 MiB needed"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme::worker::cpu
