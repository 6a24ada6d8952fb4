// Goal: every operator of a CudaDevice computes what reference/ or its formula does, for shapes
// that fit no tile; and a row's bits do not depend on the others. Method: the kernels themselves,
// on the emulated GPU of every build (on_host/), or on one.
#include <gtest/gtest.h>

#include <functional>
#include "worker/kernels/cuda/device_for_test.h"
#include "worker/kernels/element.h"
#include "worker/kernels/reference/reference.h"

namespace trireme::worker::cuda {
namespace {

// Of the largest value: fp32 chains of some hundred terms.
constexpr float kTolerance = 3e-6F;

class CudaKernels : public testing::TestWithParam<Element> {
 protected:
  [[nodiscard]] static Element element() { return GetParam(); }
  // As the device's element keeps them.
  [[nodiscard]] static std::vector<float> as_stored(std::vector<float> values) {
    for (float& value : values) {
      if (element() == Element::kBfloat16) value = rounded_to_bfloat16(value);
      if (element() == Element::kFloat16) value = float_of_float16(float16_of(value));
    }
    return values;
  }

  TestedDevice device_{element()};
};

std::string name_of(const testing::TestParamInfo<Element>& test) {
  if (test.param == Element::kFloat32) return "fp32";
  return test.param == Element::kBfloat16 ? "bf16" : "fp16";
}

INSTANTIATE_TEST_SUITE_P(All, CudaKernels,
                         testing::Values(Element::kFloat32, Element::kBfloat16, Element::kFloat16),
                         name_of);

TEST_P(CudaKernels, a_linear_layer_is_the_reference_for_shapes_that_fit_no_tile) {
  for (const uint32_t in : {1U, 7U, 64U, 129U}) {
    for (const uint32_t out : {1U, 31U, 66U}) {
      const auto weight = as_stored(random_values(std::size_t{out} * in, in * 1000 + out));
      const auto bias = as_stored(random_values(out, out));
      const auto linear = device_.linear(weight, out, bias);
      for (const uint32_t rows : {1U, 3U, 17U, 70U}) {
        const auto x = as_stored(random_values(std::size_t{rows} * in, rows));
        const View y = device_.empty(1, rows, out);
        device_->linear(*linear, device_.upload(0, x, rows), y);
        expect_close(device_.values_of(y), reference::linear(x, weight, bias, rows, in),
                     kTolerance);
      }
    }
  }
}

TEST_P(CudaKernels, rows_that_enter_a_product_are_rounded_to_the_weights_element) {
  const auto weight = as_stored(random_values(5 * 40, 1));
  const auto x = random_values(3 * 40, 2);
  const View y = device_.empty(1, 3, 5);
  device_->linear(*device_.linear(weight, 5), device_.upload(0, x, 3), y);
  expect_close(device_.values_of(y), reference::linear(as_stored(x), weight, {}, 3, 40),
               kTolerance);
}

TEST_P(CudaKernels, a_row_of_a_product_has_the_same_bits_among_any_number_of_rows) {
  constexpr uint32_t in = 90;
  constexpr uint32_t out = 70;
  constexpr uint32_t rows_max = 66;
  const auto weight = random_values(std::size_t{out} * in, 5);
  const auto linear = device_.linear(weight, out);
  const View x = device_.upload(0, random_values(std::size_t{rows_max} * in, 6), rows_max);
  const View y = device_.empty(1, rows_max, out);
  device_->linear(*linear, x, y);
  const auto all = device_.values_of(y);
  for (const uint32_t rows : {1U, 2U, 15U, 16U, 17U, 65U}) {
    // The last rows of x, so that a row meets several places of a tile.
    const View some = device_.empty(2, rows, out);
    device_->linear(*linear, x.rows(rows_max - rows, rows), some);
    const auto got = device_.values_of(some);
    ASSERT_TRUE(std::equal(got.rbegin(), got.rend(), all.rbegin())) << rows << " rows";
  }
}

TEST_P(CudaKernels, stacked_parts_and_padding_are_one_matrix) {
  const auto first = as_stored(random_values(5 * 20, 1));
  const auto second = as_stored(random_values(40 * 20, 2));
  auto linear =
      device_->load_linear({.parts = {slice_of(first, 5), slice_of(second, 40)}, .row_count = 50});
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ((*linear)->out_features(), 50U);
  std::vector<float> stacked = first;
  stacked.insert(stacked.end(), second.begin(), second.end());
  stacked.resize(50 * 20);
  const auto x = as_stored(random_values(20, 3));
  const View y = device_.empty(1, 1, 50);
  device_->linear(**linear, device_.upload(0, x, 1), y);
  expect_close(device_.values_of(y), reference::linear(x, stacked, {}, 1, 20), kTolerance);
}

TEST_P(CudaKernels, rms_norms_are_the_reference) {
  for (const uint32_t columns : {1U, 16U, 50U, 1100U}) {
    const auto x = random_values(std::size_t{3} * columns, columns);
    const auto delta = random_values(std::size_t{3} * columns, columns + 1);
    const auto weight = as_stored(random_values(columns, columns + 2));
    const auto loaded = device_.vector(weight);
    std::vector<float> expected;
    std::vector<float> sum;
    for (std::size_t i = 0; i < x.size(); ++i) sum.push_back(x[i] + delta[i]);
    for (std::size_t row = 0; row < 3; ++row) {
      const auto normed =
          reference::rms_norm(std::span(sum).subspan(row * columns, columns), weight, 1e-5F);
      expected.insert(expected.end(), normed.begin(), normed.end());
    }
    const View added = device_.upload(0, x, 3);
    const View out = device_.empty(2, 3, columns);
    device_->add_rms_norm(added, device_.upload(1, delta, 3), *loaded, 1e-5F, out);
    expect_close(device_.values_of(out), expected, kTolerance);
    EXPECT_EQ(device_.values_of(added), sum);
    device_->rms_norm(added, *loaded, 1e-5F, added);
    expect_close(device_.values_of(added), expected, kTolerance);
    const View wide = device_.upload(3, sum, 3);
    device_->wide_rms_norm(wide, *loaded, 1e-5F);
    expect_close(device_.values_of(wide), expected, kTolerance);
  }
}

TEST_P(CudaKernels, each_head_of_a_part_of_a_row_is_normed_by_itself) {
  constexpr uint32_t head_size = 10;
  constexpr uint32_t heads = 3;
  const auto x = random_values(std::size_t{2} * 40, 1);
  const auto weight = as_stored(random_values(head_size, 2));
  const View all = device_.upload(0, x, 2);
  // From column 5 on: nothing is aligned.
  device_->head_rms_norm(all.columns(5, heads * head_size), head_size, *device_.vector(weight),
                         1e-5F);
  auto expected = x;
  for (uint32_t row = 0; row < 2; ++row) {
    for (uint32_t head = 0; head < heads; ++head) {
      const std::size_t at = row * 40 + 5 + head * head_size;
      const auto normed = reference::rms_norm(std::span(x).subspan(at, head_size), weight, 1e-5F);
      std::ranges::copy(normed, expected.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  expect_close(device_.values_of(all), expected, kTolerance);
}

std::vector<float> layer_normed(std::span<const float> row, std::span<const float> weight,
                                std::span<const float> bias) {
  double mean = 0;
  double variance = 0;
  for (const float value : row) mean += value / static_cast<double>(row.size());
  for (const float value : row) {
    variance += std::pow(value - mean, 2) / static_cast<double>(row.size());
  }
  std::vector<float> out(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    out[i] = static_cast<float>((row[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] +
                                (bias.empty() ? 0.0 : static_cast<double>(bias[i])));
  }
  return out;
}

TEST_P(CudaKernels, layer_norms_centre_and_scale_with_and_without_bias) {
  constexpr uint32_t columns = 37;
  const auto x = random_values(columns, 4, 3);
  const auto weight = as_stored(random_values(columns, 5));
  const auto bias = as_stored(random_values(columns, 6));
  const auto loaded = device_.vector(weight);
  const auto loaded_bias = device_.vector(bias);
  const View in = device_.upload(0, x, 1);
  const View out = device_.empty(1, 1, columns);
  device_->layer_norm(in, *loaded, nullptr, 1e-5F, out);
  expect_close(device_.values_of(out), layer_normed(x, weight, {}), kTolerance);
  device_->layer_norm(in, *loaded, loaded_bias.get(), 1e-5F, in);
  expect_close(device_.values_of(in), layer_normed(x, weight, bias), kTolerance);
}

TEST_P(CudaKernels, heads_with_layer_norms_of_their_own_weights) {
  constexpr uint32_t head_size = 6;
  const auto x = random_values(3 * head_size, 1, 2);
  const auto weight = as_stored(random_values(3 * head_size, 2));
  const View heads = device_.upload(0, x, 1);
  device_->head_layer_norm(heads, head_size, *device_.vector(weight), 1e-5F);
  std::vector<float> expected;
  for (uint32_t head = 0; head < 3; ++head) {
    const auto normed = layer_normed(std::span(x).subspan(head * head_size, head_size),
                                     std::span(weight).subspan(head * head_size, head_size), {});
    expected.insert(expected.end(), normed.begin(), normed.end());
  }
  expect_close(device_.values_of(heads), expected, kTolerance);
}

double formula(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1 + std::exp(-x));
  if (activation == Activation::kGelu) return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  const double inner = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

TEST_P(CudaKernels, elementwise_operators_are_their_formulas_far_from_zero_too) {
  constexpr uint32_t columns = 37;
  const auto x = random_values(std::size_t{3} * columns, 1, 30);
  const auto y = random_values(std::size_t{3} * columns, 2);
  const View delta = device_.upload(1, y, 3);
  const auto expect_mapped = [&](const std::function<void(const View&)>& change,
                                 const std::function<double(double, double)>& expected) {
    const View view = device_.upload(0, x, 3);
    change(view);
    const auto got = device_.values_of(view);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double value = expected(static_cast<double>(x[i]), static_cast<double>(y[i]));
      ASSERT_NEAR(got[i], value, 2e-6 * std::max(1.0, std::abs(value))) << "of " << x[i];
    }
  };
  expect_mapped([&](const View& view) { device_->add(view, delta); },
                [](double a, double b) { return a + b; });
  expect_mapped([&](const View& view) { device_->scale(view, 0.3F); },
                [](double a, double) { return a * static_cast<double>(0.3F); });
  for (const auto activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    expect_mapped([&](const View& view) { device_->activate(activation, view); },
                  [&](double a, double) { return formula(activation, a); });
  }
  auto capped = x;
  device_->cap_logits(5, capped);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(capped[i], 5 * std::tanh(static_cast<double>(x[i]) / 5), 1e-5);
  }
}

TEST_P(CudaKernels, a_feed_forward_block_is_its_products_and_the_activation) {
  constexpr uint32_t in = 30;
  constexpr uint32_t columns = 22;
  constexpr uint32_t rows = 5;
  const auto both = as_stored(random_values(std::size_t{2} * columns * in, 1));
  const auto down = as_stored(random_values(std::size_t{7} * columns, 2));
  const auto x = as_stored(random_values(std::size_t{rows} * in, 3));
  const auto down_weight = device_.linear(down, 7);
  const std::span<const float> all(both);
  const auto gate = reference::linear(x, all.first(columns * in), {}, rows, in);
  const auto up = reference::linear(x, all.subspan(columns * in), {}, rows, in);
  for (const bool is_gated : {true, false}) {
    const auto first = is_gated ? device_.linear(all, 2 * columns)
                                : device_.linear(all.first(columns * in), columns);
    const View out = device_.empty(1, rows, 7);
    device_->feed_forward(Activation::kGelu, *first, *down_weight, device_.upload(0, x, rows), out);
    std::vector<float> activated(gate.size());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double value = formula(Activation::kGelu, static_cast<double>(gate[i]));
      activated[i] = static_cast<float>(value * (is_gated ? static_cast<double>(up[i]) : 1.0));
    }
    // A value between two numbers of the element may go to either.
    const float tolerance = element() == Element::kBfloat16  ? 4e-3F
                            : element() == Element::kFloat16 ? 1e-3F
                                                             : kTolerance;
    expect_close(device_.values_of(out),
                 reference::linear(as_stored(activated), down, {}, rows, columns), tolerance);
  }
}

TEST_P(CudaKernels, rows_are_picked_by_tokens_positions_and_indices) {
  constexpr uint32_t columns = 9;
  const auto values = as_stored(random_values(std::size_t{4} * columns, 1));
  const auto table = device_->load_embedding(slice_of(values, 4));
  ASSERT_TRUE(table.ok()) << table.status();
  const std::vector<int32_t> tokens = {3, 0, 4};  // There is no row 4: zeros.
  const std::vector<int32_t> positions = {1, 1, 2};
  const ForwardRow row{.token_count = 3};
  device_->begin_step({.tokens = tokens, .positions = positions, .rows = std::span(&row, 1)}, {});
  const auto row_of_table = [&](uint32_t index) {
    return index < 4 ? std::vector<float>(values.begin() + std::ptrdiff_t{index} * columns,
                                          values.begin() + std::ptrdiff_t{index + 1} * columns)
                     : std::vector<float>(columns);
  };
  const View out = device_.empty(0, 3, columns);
  device_->embed(**table, out);
  device_->add_positions(**table, out);
  const auto got = device_.values_of(out);
  for (uint32_t token = 0; token < 3; ++token) {
    const auto first = row_of_table(static_cast<uint32_t>(tokens[token]));
    const auto second = row_of_table(static_cast<uint32_t>(positions[token]));
    for (uint32_t i = 0; i < columns; ++i) {
      EXPECT_EQ(got[token * columns + i], first[i] + second[i]);
    }
  }
  const View picked = device_.empty(1, 2, columns);
  const std::vector<uint32_t> indices = {2, 0};
  device_->gather_rows(out, indices, picked);
  std::vector<float> expected(got.begin() + 2 * columns, got.end());
  expected.insert(expected.end(), got.begin(), got.begin() + columns);
  EXPECT_EQ(device_.values_of(picked), expected);
}

TEST_P(CudaKernels, the_rows_of_a_tied_head_are_those_of_the_table) {
  constexpr uint32_t columns = 11;
  const auto values = random_values(std::size_t{6} * columns, 1);
  const auto table = device_->load_embedding(slice_of(values, 6));
  ASSERT_TRUE(table.ok());
  auto head = device_.linear(values, 6);
  const auto rows = device_->embedding_of(*head);
  head.reset();
  const std::vector<int32_t> tokens = {5, 2};
  const ForwardRow row{.token_count = 2};
  device_->begin_step({.tokens = tokens, .positions = tokens, .rows = std::span(&row, 1)}, {});
  const View from_table = device_.empty(0, 2, columns);
  const View from_head = device_.empty(1, 2, columns);
  device_->embed(**table, from_table);
  device_->embed(*rows, from_head);
  EXPECT_EQ(device_.values_of(from_head), device_.values_of(from_table));
}

TEST_P(CudaKernels, rotary_is_the_reference_and_leaves_the_rest_of_a_head) {
  constexpr uint32_t head_size = 46;
  constexpr uint32_t rotary_size = 38;
  const auto heads = random_values(std::size_t{2} * head_size, 1);
  const std::vector<int32_t> one(1, 0);
  const ForwardRow row{.token_count = 1};
  const ForwardBatch batch{.tokens = one, .positions = one, .rows = std::span(&row, 1)};
  device_->begin_step(batch, {});
  for (const uint64_t seed : {2U, 3U}) {
    const auto cosines = random_values(rotary_size / 2, seed);
    const auto sines = random_values(rotary_size / 2, seed + 10);
    std::vector<float> expected;
    for (uint32_t head = 0; head < 2; ++head) {
      const auto part = std::span<const float>(heads).subspan(head * head_size, head_size);
      const auto turned = reference::rotary(part.first(rotary_size), cosines, sines);
      expected.insert(expected.end(), turned.begin(), turned.end());
      expected.insert(expected.end(), part.begin() + rotary_size, part.end());
    }
    device_->begin_step(batch, {});
    device_->use_angles({cosines, sines, rotary_size});
    const View view = device_.upload(0, heads, 1);
    device_->rotary(view, head_size);
    expect_close(device_.values_of(view), expected, kTolerance);
  }
}

}  // namespace
}  // namespace trireme::worker::cuda
